resource "google_logging_project_sink" "events" {
  for_each = local.sink_filters

  name        = "${var.name}-${each.key}"
  description = "Ends of tasks, for ${var.name}"
  destination = "pubsub.googleapis.com/${google_pubsub_topic.events.id}"
  filter      = trimspace(each.value)

  unique_writer_identity = true
}
