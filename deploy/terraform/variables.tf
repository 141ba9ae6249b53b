variable "project_id" {
  description = "Project that everything is made in. Its logs are where completions are read from."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "It must be a project id, not its number or its display name."
  }
}

variable "region" {
  description = "Region of the service and the bucket (each commit waits for one request between them), and of steps that name none."
  type        = string
}

variable "name" {
  description = "Name of the Cloud Run service and of its service account, and the first part of all other names. What bears it is excluded from the log sinks."
  type        = string
  default     = "aiorch"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.name))
    error_message = "It must have 6 to 30 characters: lower-case letters, digits and dashes, as names of service accounts do."
  }
}

variable "image" {
  description = "Container image to run, best by digest: REGION-docker.pkg.dev/PROJECT/REPOSITORY/NAME@sha256:..."
  type        = string
}

# -- storage

variable "bucket" {
  description = "Name of the bucket that is made for the store; null: PROJECT-NAME."
  type        = string
  default     = null
}

variable "store_prefix" {
  description = "What all object names in the bucket begin with, without a slash at the end; empty for nothing."
  type        = string
  default     = ""

  validation {
    condition     = var.store_prefix == "" || can(regex("^[A-Za-z0-9_=-][A-Za-z0-9_.=-]*(/[A-Za-z0-9_=-][A-Za-z0-9_.=-]*)*$", var.store_prefix))
    error_message = "It must be of letters, digits and _ - . =, in parts that do not begin with a dot, separated by single slashes."
  }
}

variable "hierarchical_namespace" {
  description = "Whether the bucket begins with up to eight times as many operations a second. Can only be chosen when the bucket is made."
  type        = bool
  default     = false
}

variable "keep_runs_days" {
  description = <<-EOT
    Days after which the documents of runs may be deleted, counted from their last commit; null: never.
    It must be longer than any run takes, waiting included: if the document of an open run is deleted, that run begins anew.
  EOT
  type        = number
  default     = null

  validation {
    # A message waits 7 days in the subscription, then up to 31 in that of the dead letters: replayed after the document
    # is gone, a start message would start its run a second time.
    condition     = var.keep_runs_days == null || try(var.keep_runs_days >= 40, false)
    error_message = "It must be at least 40, longer than Pub/Sub may keep a start message, or null."
  }
}

variable "keep_rejected_days" {
  description = "Days after which messages that could not be read, parked under rejected/, are deleted; null: never."
  type        = number
  default     = 90

  validation {
    condition     = var.keep_rejected_days == null || try(var.keep_rejected_days >= 1, false)
    error_message = "It must be at least 1, or null."
  }
}

# -- who may do what

variable "start_publishers" {
  description = "Who besides the log sinks may publish to the topic, and so start runs: members as IAM spells them, user:a@example.com."
  type        = set(string)
  default     = []

  validation {
    condition     = length(setintersection(var.start_publishers, ["allUsers", "allAuthenticatedUsers"])) == 0
    error_message = "Whoever may publish decides what is run, so it cannot be everybody."
  }
}

variable "invokers" {
  description = "Who may send HTTP requests to the service, as members of IAM."
  type        = set(string)
  default     = []

  validation {
    condition     = length(setintersection(var.invokers, ["allUsers", "allAuthenticatedUsers"])) == 0
    error_message = "Whoever may send requests can start and cancel runs, so it cannot be everybody."
  }
}

variable "call_services" {
  description = "Cloud Run services and functions of the second generation that DAGs call, by the name of their service (dashes, no underscores)."
  type = set(object({
    name    = string
    region  = optional(string)
    project = optional(string)
  }))
  default = []
}

variable "call_functions_gen1" {
  description = "Functions of the first generation that DAGs call."
  type = set(object({
    name    = string
    region  = optional(string)
    project = optional(string)
  }))
  default = []
}

variable "dataflow_worker_accounts" {
  description = "E-mails of the service accounts that Dataflow workers run as. Empty: no permission for Dataflow is given at all."
  type        = set(string)
  default     = []
}

variable "dataflow_template_buckets" {
  description = "Names of the buckets with Dataflow templates, if they are not public."
  type        = set(string)
  default     = []
}

# -- the service

variable "min_instances" {
  description = "Instances that are always there. Messages are pulled, so none wakes an instance: do not count on more than this."
  type        = number
  default     = 1

  validation {
    condition     = var.min_instances >= 1
    error_message = "It must be at least 1: messages are pulled, and nothing pulls without an instance."
  }
}

variable "max_instances" {
  description = <<-EOT
    Instances that there may be. One does about 1,000 events a second. More are correct and hardly faster, since events
    of one run that arrive at several instances conflict.
  EOT
  type        = number
  default     = 1

  validation {
    condition     = var.max_instances >= var.min_instances
    error_message = "It must be at least min_instances."
  }
}

variable "cpu" {
  description = "Processors of an instance. One event loop does the work, so more than 1 is of use to Python functions in threads only."
  type        = string
  default     = "1"
}

variable "memory" {
  description = "Memory of an instance. 10,000 open runs take about 200 MB; Python functions come on top."
  type        = string
  default     = "512Mi"
}

variable "ingress" {
  description = "Where requests may come from."
  type        = string
  default     = "INGRESS_TRAFFIC_INTERNAL_ONLY"

  validation {
    condition     = contains(["INGRESS_TRAFFIC_INTERNAL_ONLY", "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER", "INGRESS_TRAFFIC_ALL"], var.ingress)
    error_message = "It must be INGRESS_TRAFFIC_INTERNAL_ONLY, INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER or INGRESS_TRAFFIC_ALL."
  }
}

variable "dags" {
  description = "Definitions in the image: files or folders, separated by colons."
  type        = string
  default     = "/app/dags"
}

variable "function_url" {
  description = "URL of Cloud Functions whose step has none, with {name}, {service}, {project_id} and {region}; null: that of the first generation."
  type        = string
  default     = null
}

variable "concurrency" {
  description = "Messages that an instance holds at once; null: the default of the service."
  type        = number
  default     = null
}

variable "dataflow_jobs" {
  description = "Dataflow jobs at a time per instance; null: the default of the service, 25, which is the quota of a project."
  type        = number
  default     = null
}

variable "dataflow_api" {
  description = "Endpoint of the Dataflow API, for private endpoints; null: the public one."
  type        = string
  default     = null
}

variable "drain" {
  description = "Seconds that running Python functions may go on when an instance is stopped; null: the default of the service. Cloud Run ends it after 10."
  type        = number
  default     = null

  validation {
    condition     = var.drain == null || try(var.drain >= 0 && var.drain <= 6, false)
    error_message = "It must be 0 to 6: Cloud Run kills an instance 10 seconds after SIGTERM, and closing takes up to 3 of them."
  }
}

variable "log_level" {
  description = "What is logged."
  type        = string
  default     = "info"

  validation {
    condition     = contains(["debug", "info", "warning", "error"], var.log_level)
    error_message = "It must be debug, info, warning or error."
  }
}

variable "token_secret" {
  description = "Secret of Secret Manager with a token that requests must carry besides being invokers; null: none is asked for."
  type        = string
  default     = null
}

# -- alerts

variable "notification_channels" {
  description = "Channels of Cloud Monitoring to tell when something needs a human, as projects/PROJECT/notificationChannels/ID. Empty: no alerts are made."
  type        = list(string)
  default     = []
}
