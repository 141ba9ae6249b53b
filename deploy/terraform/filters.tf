# What of the project's logs tells that a task has ended. A subscription cannot filter log entries (it sees attributes
# only), so all of it is done here.
#
# The orchestrator's own entries are excluded: it would feed on its own log. The code drops them as well.
#
# Regular expressions have no backslashes, so that nobody has to know how many levels of quoting take one away.

locals {
  sink_filters = {
    # The platform's line at the end, in the wording until mid-2022 and in that since, and its line about a call that no
    # instance took.
    functions-gen1 = <<-EOT
      resource.type="cloud_function"
      AND log_id("cloudfunctions.googleapis.com/cloud-functions")
      AND textPayload=~"^(Function execution took [0-9]+ ms|The request was aborted because there was no available instance)"
      AND NOT resource.labels.function_name="${var.name}"
    EOT

    # The second generation and Cloud Run have the request log only. Requests of others are left out: aiorch counts none
    # that does not bear its own user agent, and a busy project has a great many of them.
    requests = <<-EOT
      resource.type="cloud_run_revision"
      AND log_id("run.googleapis.com/requests")
      AND httpRequest.userAgent=~"^aiorch/"
      AND NOT resource.labels.service_name="${var.name}"
    EOT

    # In whichever log: that of the launcher's line is not documented. None of them says how the job ended.
    dataflow = <<-EOT
      resource.type="dataflow_step"
      AND textPayload=~"^(Worker pool stopped[.]$|Workflow failed[.]|Error occurred in the launcher container)"
    EOT
  }
}
