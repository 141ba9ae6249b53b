# What the service may do, each role on the smallest thing that it can be given on. docs/deploy.md says what each is for.

resource "google_service_account" "orchestrator" {
  account_id   = var.name
  display_name = "aiorch: runs DAGs"
}

resource "google_storage_bucket_iam_member" "store" {
  bucket = google_storage_bucket.store.name
  role   = "roles/storage.objectUser"
  member = google_service_account.orchestrator.member
}

resource "google_pubsub_subscription_iam_member" "events" {
  subscription = google_pubsub_subscription.events.id
  role         = "roles/pubsub.subscriber"
  member       = google_service_account.orchestrator.member
}

resource "google_cloud_run_v2_service_iam_member" "calls" {
  for_each = { for each in var.call_services : "${coalesce(each.project, var.project_id)}/${coalesce(each.region, var.region)}/${each.name}" => each }

  project  = coalesce(each.value.project, var.project_id)
  location = coalesce(each.value.region, var.region)
  name     = each.value.name
  role     = "roles/run.invoker"
  member   = google_service_account.orchestrator.member
}

resource "google_cloudfunctions_function_iam_member" "calls" {
  for_each = { for each in var.call_functions_gen1 : "${coalesce(each.project, var.project_id)}/${coalesce(each.region, var.region)}/${each.name}" => each }

  project        = coalesce(each.value.project, var.project_id)
  region         = coalesce(each.value.region, var.region)
  cloud_function = each.value.name
  role           = "roles/cloudfunctions.invoker"
  member         = google_service_account.orchestrator.member
}

# The one role on the project: Dataflow knows no smaller thing.
resource "google_project_iam_member" "dataflow" {
  count = length(var.dataflow_worker_accounts) == 0 ? 0 : 1

  project = var.project_id
  role    = "roles/dataflow.developer"
  member  = google_service_account.orchestrator.member
}

resource "google_service_account_iam_member" "dataflow_workers" {
  for_each = var.dataflow_worker_accounts

  service_account_id = "projects/${var.project_id}/serviceAccounts/${each.value}"
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.orchestrator.member
}

resource "google_storage_bucket_iam_member" "dataflow_templates" {
  for_each = var.dataflow_template_buckets

  bucket = each.value
  role   = "roles/storage.objectViewer"
  member = google_service_account.orchestrator.member
}

resource "google_secret_manager_secret_iam_member" "token" {
  count = var.token_secret == null ? 0 : 1

  project   = var.project_id
  secret_id = var.token_secret
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.orchestrator.member
}
