data "google_project" "this" {
  project_id = var.project_id
}

locals {
  # The account in whose name Pub/Sub itself moves dead letters.
  pubsub_agent = "serviceAccount:service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
}

resource "google_pubsub_topic" "events" {
  name = "${var.name}-events"
}

resource "google_pubsub_subscription" "events" {
  name  = "${var.name}-events"
  topic = google_pubsub_topic.events.id

  # How late a message is that was in an instance that died.
  ack_deadline_seconds       = 60
  message_retention_duration = "604800s"

  # Handling is idempotent, and this costs throughput.
  enable_exactly_once_delivery = false

  # Never: else a subscription that nobody pulls from for 31 days is deleted, and what is published then is lost.
  expiration_policy {
    ttl = ""
  }

  # Without one, a message that is given back comes again at once.
  retry_policy {
    minimum_backoff = "1s"
    maximum_backoff = "60s"
  }

  # The most there is: an outage of the store gives good messages back many times.
  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters.id
    max_delivery_attempts = 100
  }
}

resource "google_pubsub_topic" "dead_letters" {
  name = "${var.name}-dead-letters"
}

# A topic without a subscription forgets: dead letters are kept here, for as long as Pub/Sub keeps anything.
resource "google_pubsub_subscription" "dead_letters" {
  name  = "${var.name}-dead-letters"
  topic = google_pubsub_topic.dead_letters.id

  ack_deadline_seconds       = 60
  message_retention_duration = "2678400s"

  expiration_policy {
    ttl = ""
  }
}

# Without these two, dead letters are delivered for ever instead.

resource "google_pubsub_topic_iam_member" "dead_letters_agent" {
  topic  = google_pubsub_topic.dead_letters.id
  role   = "roles/pubsub.publisher"
  member = local.pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "events_agent" {
  subscription = google_pubsub_subscription.events.id
  role         = "roles/pubsub.subscriber"
  member       = local.pubsub_agent
}

# All who may publish: whoever is not named here is removed, since a message decides what is run.
# Sinks may share one writer, so single members would remove each other's permission when one sink goes.
resource "google_pubsub_topic_iam_binding" "publishers" {
  topic   = google_pubsub_topic.events.id
  role    = "roles/pubsub.publisher"
  members = setunion([for sink in google_logging_project_sink.events : sink.writer_identity], var.start_publishers)
}
