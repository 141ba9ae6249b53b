# The three things that never mend themselves, or that cost events while they last.

locals {
  alerts = {
    dead-letters = {
      filter    = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/num_undelivered_messages\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.dead_letters.name}\""
      aligner   = "ALIGN_MAX"
      threshold = 0
      duration  = "0s"
      content   = "Messages were given back 100 times and now wait in ${google_pubsub_subscription.dead_letters.name}. They are kept for 31 days."
    }

    waiting = {
      filter    = "resource.type=\"pubsub_subscription\" AND metric.type=\"pubsub.googleapis.com/subscription/oldest_unacked_message_age\" AND resource.labels.subscription_id=\"${google_pubsub_subscription.events.name}\""
      aligner   = "ALIGN_MAX"
      threshold = 600
      duration  = "300s"
      content   = "A message has waited for more than 10 minutes: nobody pulls, or somebody gives it back again and again. After 7 days it is lost."
    }

    sinks = {
      filter    = "resource.type=\"logging_sink\" AND metric.type=\"logging.googleapis.com/exports/error_count\" AND resource.labels.name=starts_with(\"${var.name}-\")"
      aligner   = "ALIGN_DELTA"
      threshold = 0
      duration  = "0s"
      content   = "A log sink cannot publish to ${google_pubsub_topic.events.name}, and drops what it cannot publish. Look at who may publish to the topic."
    }
  }
}

resource "google_monitoring_alert_policy" "this" {
  for_each = length(var.notification_channels) == 0 ? {} : local.alerts

  display_name          = "${var.name}: ${each.key}"
  combiner              = "OR"
  notification_channels = var.notification_channels

  documentation {
    content = each.value.content
  }

  conditions {
    display_name = each.key

    condition_threshold {
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = each.value.duration

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = each.value.aligner
      }
    }
  }
}
