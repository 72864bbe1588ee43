mock_provider "google" {}

variables {
  project_id      = "aurora-connector"
  region          = "europe-west1"
  name            = "aurora-sweep"
  function        = "sweep"
  image           = "r/i@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  service_account = "sweep@aurora-connector.iam.gserviceaccount.com"
}

run "private_by_default" {
  assert {
    condition     = google_cloud_run_v2_service.function.ingress == "INGRESS_TRAFFIC_INTERNAL_ONLY"
    error_message = "a service must be internal unless it is said otherwise"
  }
  assert {
    condition     = google_cloud_run_v2_service.function.invoker_iam_disabled == false && length(google_cloud_run_v2_service_iam_member.invoker) == 0
    error_message = "nobody may invoke a service unless named"
  }
  assert {
    condition     = google_cloud_run_v2_service.function.deletion_protection
    error_message = "services are protected from deletion"
  }
  assert {
    condition     = length(google_cloud_run_v2_service.function.template[0].vpc_access) == 0
    error_message = "no network unless it is asked for"
  }
}

run "serves_its_function" {
  variables {
    environment = { AUTH = "oidc" }
  }

  assert {
    condition     = { for e in google_cloud_run_v2_service.function.template[0].containers[0].env : e.name => e.value } == { FUNCTION_TARGET = "sweep", AUTH = "oidc", GOGC = "400", GOMEMLIMIT = "384MiB" }
    error_message = "the environment must name the function, and have what it was given"
  }
  assert {
    condition     = google_cloud_run_v2_service.function.template[0].timeout == "105s"
    error_message = "a request may take 105 s"
  }
  assert {
    condition     = google_cloud_run_v2_service.function.template[0].containers[0].resources[0].startup_cpu_boost && google_cloud_run_v2_service.function.template[0].containers[0].startup_probe[0].tcp_socket[0].port == 8080
    error_message = "a cold start has more processor, and ends when the port is open"
  }
}

run "named_invokers_and_a_network" {
  variables {
    ingress  = "load_balancer"
    invokers = ["serviceAccount:tasks@aurora-connector.iam.gserviceaccount.com"]
    network  = { network = "n", subnetwork = "s", egress = "PRIVATE_RANGES_ONLY" }
  }

  assert {
    condition     = google_cloud_run_v2_service_iam_member.invoker[var.invokers[0]].role == "roles/run.invoker" && google_cloud_run_v2_service_iam_member.invoker[var.invokers[0]].member == var.invokers[0]
    error_message = "who is named may invoke, and no more"
  }
  assert {
    condition     = google_cloud_run_v2_service.function.ingress == "INGRESS_TRAFFIC_INTERNAL_LOAD_BALANCER"
    error_message = "the load balancer reaches the service, and the internet does not"
  }
  assert {
    condition     = google_cloud_run_v2_service.function.template[0].vpc_access[0].network_interfaces[0].subnetwork == "s"
    error_message = "requests leave through the network"
  }
}

run "refuses_an_image_by_tag" {
  command = plan
  variables {
    image = "r/i:latest"
  }
  expect_failures = [var.image]
}

run "refuses_a_timeout_that_outlasts_a_task" {
  command = plan
  variables {
    timeout = "110s"
  }
  expect_failures = [var.timeout]
}

run "refuses_to_name_the_function_twice" {
  command = plan
  variables {
    environment = { FUNCTION_TARGET = "login" }
  }
  expect_failures = [var.environment]
}

run "refuses_invokers_that_nobody_checks" {
  command = plan
  variables {
    invoker_iam_check = false
    invokers          = ["serviceAccount:tasks@aurora-connector.iam.gserviceaccount.com"]
  }
  expect_failures = [google_cloud_run_v2_service.function]
}

run "refuses_to_open_an_internal_service_to_all" {
  command = plan
  variables {
    invokers = ["allUsers"]
  }
  expect_failures = [google_cloud_run_v2_service.function]
}

run "refuses_more_processors_than_the_region_has" {
  command = plan
  variables {
    scaling = { max_instances = 21 }
  }
  expect_failures = [google_cloud_run_v2_service.function]
}

run "refuses_more_memory_than_the_region_has" {
  command = plan
  variables {
    scaling = { max_instances = 20, cpu = "500m", memory = "4Gi" }
  }
  expect_failures = [google_cloud_run_v2_service.function]
}

run "takes_what_a_raised_quota_allows" {
  command = plan
  variables {
    scaling         = { max_instances = 50, memory = "1Gi" }
    regional_cpu    = 50
    regional_memory = 50
  }
}
