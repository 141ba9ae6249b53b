locals {
  # What object names begin with: "" or "prefix/".
  object_prefix = var.store_prefix == "" ? "" : "${var.store_prefix}/"
  store         = "gs://${google_storage_bucket.store.name}${var.store_prefix == "" ? "" : "/${var.store_prefix}"}"

  # Days by prefix. Never to be listed here:
  #   open/         the only index of open runs: without its marker a run is never looked at again
  #   alive/        who is alive; removed by those who see that somebody is dead
  #   definitions/  made once by the first run that needs one and never touched again, so their age says nothing about
  #                 whether a run still needs them; they are few and small
  # A run document is as old as its last commit, an execution record as its launch. The record may hold the result, and
  # is needed for as long as the run is, so it is kept for twice as long: a run takes less than the first period.
  expiry_days = {
    "runs/"       = var.keep_runs_days
    "executions/" = var.keep_runs_days == null ? null : 2 * var.keep_runs_days
    "values/"     = var.keep_runs_days == null ? null : 2 * var.keep_runs_days
    "rejected/"   = var.keep_rejected_days
  }
}

resource "google_storage_bucket" "store" {
  name     = coalesce(var.bucket, "${var.project_id}-${var.name}")
  location = var.region

  # It is the only copy of everything that aiorch knows: a bucket that is not empty is not destroyed.
  force_destroy = false

  uniform_bucket_level_access = true

  # Objects that are public are cached for an hour, and a cached run document is an old one.
  public_access_prevention = "enforced"

  # Off: by default every version that was overwritten is kept for 7 days and billed, and a run document is overwritten
  # at each commit.
  soft_delete_policy {
    retention_duration_seconds = 0
  }

  # Off for the same reason.
  versioning {
    enabled = false
  }

  dynamic "hierarchical_namespace" {
    for_each = var.hierarchical_namespace ? [true] : []

    content {
      enabled = true
    }
  }

  dynamic "lifecycle_rule" {
    for_each = { for prefix, days in local.expiry_days : prefix => days if days != null }

    content {
      action {
        type = "Delete"
      }

      condition {
        age            = lifecycle_rule.value
        matches_prefix = ["${local.object_prefix}${lifecycle_rule.key}"]
      }
    }
  }
}
