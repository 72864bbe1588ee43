locals {
  ingress = {
    internal      = "INGRESS_TRAFFIC_INTERNAL_ONLY"
    load_balancer = "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
    all           = "INGRESS_TRAFFIC_ALL"
  }
  scaling = coalesce(var.scaling, {
    min_instances = 0, max_instances = 20, cpu = "1", memory = "512Mi", concurrency = 80
  })

  # An instance has memory for far more than its requests need, and is paid for by
  # processor time: Go's collector runs when the heap is five times what is in use,
  # and more often before memory ends (https://go.dev/doc/gc-guide).
  mebibytes = tonumber(regex("^[0-9]+", local.scaling.memory)) * (endswith(local.scaling.memory, "Gi") ? 1024 : 1)
  collector = { GOGC = "400", GOMEMLIMIT = "${floor(local.mebibytes * 3 / 4)}MiB" }

  processors = endswith(local.scaling.cpu, "m") ? tonumber(trimsuffix(local.scaling.cpu, "m")) / 1000 : tonumber(local.scaling.cpu)
}

resource "google_cloud_run_v2_service" "function" {
  project             = var.project_id
  location            = var.region
  name                = var.name
  description         = "The connector's function ${var.function}"
  labels              = { function = var.function }
  ingress             = local.ingress[var.ingress]
  deletion_protection = var.deletion_protected

  # On: Cloud Run lets in the members of invokers, and takes the signature off the
  # token that it has verified. Off: all that ingress lets in.
  invoker_iam_disabled = !var.invoker_iam_check

  template {
    service_account                  = var.service_account
    timeout                          = var.timeout
    max_instance_request_concurrency = local.scaling.concurrency

    scaling {
      min_instance_count = local.scaling.min_instances
      max_instance_count = local.scaling.max_instances
    }

    dynamic "vpc_access" {
      for_each = var.network == null ? [] : [var.network]
      content {
        egress = vpc_access.value.egress
        network_interfaces {
          network    = vpc_access.value.network
          subnetwork = vpc_access.value.subnetwork
        }
      }
    }

    containers {
      image = var.image

      env {
        name  = "FUNCTION_TARGET"
        value = var.function
      }
      dynamic "env" {
        for_each = merge(local.collector, var.environment)
        content {
          name  = env.key
          value = env.value
        }
      }

      ports {
        container_port = 8080
      }

      resources {
        limits = { cpu = local.scaling.cpu, memory = local.scaling.memory }
        # Paid for while it works on a request: nothing is done between them.
        cpu_idle          = true
        startup_cpu_boost = true
      }

      # The program listens when its configuration is good and its secrets are
      # read: an open port is all there is to know. It has nothing that a restart
      # would mend, so there is no liveness probe.
      startup_probe {
        tcp_socket {
          port = 8080
        }
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 20
      }
    }
  }

  lifecycle {
    # Traffic is moved by the release and by rollback, not by a plan.
    ignore_changes = [client, client_version, traffic]

    # Cloud Run refuses a service that could take more than the region's quota: "Max
    # instances must be set to 20 or fewer to set the requested total CPU", as in
    # https://github.com/googlecodelabs/feedback/issues/1856.
    precondition {
      condition     = local.scaling.max_instances * local.processors <= var.regional_cpu
      error_message = "${var.name} could have ${local.scaling.max_instances} instances with ${local.scaling.cpu} CPU, and Cloud Run has ${var.regional_cpu} for the project in ${var.region} (quota CpuAllocPerProjectRegion): lower scaling[\"${var.function}\"].max_instances, or have the quota raised and set regional_cpu."
    }
    precondition {
      condition     = local.scaling.max_instances * local.mebibytes <= var.regional_memory * 1024
      error_message = "${var.name} could have ${local.scaling.max_instances} instances with ${local.scaling.memory} of memory, and Cloud Run has ${var.regional_memory} GiB for the project in ${var.region} (quota MemAllocPerProjectRegion): lower scaling[\"${var.function}\"].max_instances, or have the quota raised and set regional_memory."
    }
    precondition {
      condition     = var.invoker_iam_check || length(var.invokers) == 0
      error_message = "${var.name} has invokers that nobody checks: turn invoker_iam_check on."
    }
    precondition {
      condition     = var.ingress != "internal" || !contains(var.invokers, "allUsers")
      error_message = "${var.name} is internal and open to allUsers: name who calls it."
    }
  }
}

resource "google_cloud_run_v2_service_iam_member" "invoker" {
  for_each = toset(var.invokers)

  project  = var.project_id
  location = var.region
  name     = google_cloud_run_v2_service.function.name
  role     = "roles/run.invoker"
  member   = each.value
}
