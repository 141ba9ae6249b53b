output "topic" {
  description = "Where start messages are published: the --topic of aiorch start."
  value       = google_pubsub_topic.events.id
}

output "subscription" {
  description = "What the service pulls from."
  value       = google_pubsub_subscription.events.id
}

output "dead_letter_subscription" {
  description = "Where messages are kept that were given back 100 times."
  value       = google_pubsub_subscription.dead_letters.id
}

output "store" {
  description = "Where runs are kept: the --store of aiorch runs, show, cancel and resume."
  value       = local.store
}

output "service_account" {
  description = "E-mail of the account that the service runs as."
  value       = google_service_account.orchestrator.email
}

output "service_url" {
  description = "URL of the service, for its invokers."
  value       = google_cloud_run_v2_service.orchestrator.uri
}
