locals {
  # What service.py reads. PORT and K_SERVICE are set by Cloud Run; K_SERVICE is how the service knows its own name.
  environment = {
    AIORCH_STORE         = local.store
    AIORCH_SUBSCRIPTION  = google_pubsub_subscription.events.id
    AIORCH_DAGS          = var.dags
    AIORCH_HOST          = "0.0.0.0"
    AIORCH_PROJECT_ID    = var.project_id
    AIORCH_REGION        = var.region
    AIORCH_LOG_LEVEL     = var.log_level
    AIORCH_FUNCTION_URL  = var.function_url
    AIORCH_CONCURRENCY   = var.concurrency
    AIORCH_DATAFLOW_JOBS = var.dataflow_jobs
    AIORCH_DATAFLOW_API  = var.dataflow_api
    AIORCH_DRAIN         = var.drain
  }
}

resource "google_cloud_run_v2_service" "orchestrator" {
  name     = var.name
  location = var.region
  ingress  = var.ingress

  # All state is in the bucket: this may be destroyed and made again at any time.
  deletion_protection = false

  template {
    service_account = google_service_account.orchestrator.email

    scaling {
      min_instance_count = var.min_instances
      max_instance_count = var.max_instances
    }

    containers {
      image = var.image

      ports {
        container_port = 8080
      }

      resources {
        limits = {
          cpu    = var.cpu
          memory = var.memory
        }

        # Messages are pulled, which is no request: an instance that had its processor during requests only would stand
        # still.
        cpu_idle          = false
        startup_cpu_boost = true
      }

      # Ready when the store answers. A revision that cannot read its store (a permission, a name) never becomes ready,
      # and the one before it goes on.
      startup_probe {
        period_seconds    = 5
        timeout_seconds   = 4
        failure_threshold = 12

        http_get {
          path = "/readyz"
        }
      }

      # Whether the event loop turns, and nothing else: a restart would not mend the store.
      liveness_probe {
        period_seconds    = 30
        timeout_seconds   = 10
        failure_threshold = 3

        http_get {
          path = "/healthz"
        }
      }

      dynamic "env" {
        for_each = { for name, value in local.environment : name => value if value != null }

        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = var.token_secret == null ? [] : [var.token_secret]

        content {
          name = "AIORCH_SERVE_TOKEN"

          value_source {
            secret_key_ref {
              secret  = env.value
              version = "latest"
            }
          }
        }
      }
    }
  }

  # A revision that starts before it may read its bucket would not become ready.
  depends_on = [
    google_storage_bucket_iam_member.store,
    google_pubsub_subscription_iam_member.events,
    google_secret_manager_secret_iam_member.token,
  ]
}

resource "google_cloud_run_v2_service_iam_member" "invokers" {
  for_each = var.invokers

  location = google_cloud_run_v2_service.orchestrator.location
  name     = google_cloud_run_v2_service.orchestrator.name
  role     = "roles/run.invoker"
  member   = each.value
}
