# One domain with the contract's paths before users' functions. Step functions and
# token are not on it: they are internal.
locals {
  balanced = var.load_balancer == null || var.image == null ? {} : local.public_functions
  balancer = length(local.balanced) > 0 ? 1 : 0

  # A backend's requests are logged but for the callback's: their addresses hold
  # codes and states.
  unlogged = ["callback"]

  # Paths at which a request costs more than a read of our own database, whatever its
  # method: it asks Google, begins a login or changes something.
  costly_paths = flatten([for f in local.public_functions : f.costly_paths])

  # A backend brings the requests of all users.
  requests_a_minute = try(coalesce(var.load_balancer.requests_a_minute, var.auth.mode == "backend" ? 6000 : 600), null)
  changes_a_minute  = try(coalesce(var.load_balancer.changes_a_minute, var.auth.mode == "backend" ? 600 : 60), null)
}

resource "google_compute_global_address" "front" {
  count = var.load_balancer == null ? 0 : 1 # there before the functions: DNS points to it

  project = var.project_id
  name    = "${var.name}-front"

  depends_on = [google_project_service.api]
}

resource "google_compute_region_network_endpoint_group" "function" {
  for_each = local.balanced

  project               = var.project_id
  region                = var.region
  name                  = "${var.name}-${each.key}"
  network_endpoint_type = "SERVERLESS"

  cloud_run {
    service = module.function[each.key].name
  }
}

resource "google_compute_backend_service" "function" {
  for_each = local.balanced

  project               = var.project_id
  name                  = "${var.name}-${each.key}"
  protocol              = "HTTPS"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  security_policy       = google_compute_security_policy.front[0].id

  backend {
    group = google_compute_region_network_endpoint_group.function[each.key].id
  }

  log_config {
    enable      = !contains(local.unlogged, each.key)
    sample_rate = contains(local.unlogged, each.key) ? 0 : var.load_balancer.log_sample_rate
  }
}

resource "google_compute_url_map" "front" {
  count = local.balancer

  project = var.project_id
  name    = "${var.name}-front"

  # Whatever is at no path is answered 404, in JSON, by any function.
  default_service = google_compute_backend_service.function["connection"].id

  host_rule {
    hosts        = [var.load_balancer.domain]
    path_matcher = "contract"
  }

  path_matcher {
    name            = "contract"
    default_service = google_compute_backend_service.function["connection"].id

    dynamic "path_rule" {
      for_each = local.balanced
      content {
        paths   = path_rule.value.paths
        service = google_compute_backend_service.function[path_rule.key].id
      }
    }
  }
}

resource "google_compute_url_map" "to_https" {
  count = local.balancer

  project = var.project_id
  name    = "${var.name}-to-https"

  default_url_redirect {
    https_redirect         = true
    redirect_response_code = "PERMANENT_REDIRECT" # which keeps the method
    strip_query            = false
  }
}

resource "google_compute_managed_ssl_certificate" "front" {
  count = local.balancer

  project = var.project_id
  name    = "${var.name}-front-${substr(sha256(var.load_balancer.domain), 0, 8)}" # another domain's stands beside it until it is in use

  managed {
    domains = [var.load_balancer.domain]
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "google_compute_ssl_policy" "front" {
  count = local.balancer

  project         = var.project_id
  name            = "${var.name}-front"
  profile         = "RESTRICTED"
  min_tls_version = "TLS_1_2"
}

resource "google_compute_target_https_proxy" "front" {
  count = local.balancer

  project          = var.project_id
  name             = "${var.name}-front"
  url_map          = google_compute_url_map.front[0].id
  ssl_certificates = [google_compute_managed_ssl_certificate.front[0].id]
  ssl_policy       = google_compute_ssl_policy.front[0].id
}

resource "google_compute_target_http_proxy" "to_https" {
  count = local.balancer

  project = var.project_id
  name    = "${var.name}-to-https"
  url_map = google_compute_url_map.to_https[0].id
}

resource "google_compute_global_forwarding_rule" "https" {
  count = local.balancer

  project               = var.project_id
  name                  = "${var.name}-https"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.front[0].id
  port_range            = "443"
  target                = google_compute_target_https_proxy.front[0].id
}

resource "google_compute_global_forwarding_rule" "http" {
  count = local.balancer

  project               = var.project_id
  name                  = "${var.name}-http"
  load_balancing_scheme = "EXTERNAL_MANAGED"
  ip_address            = google_compute_global_address.front[0].id
  port_range            = "80"
  target                = google_compute_target_http_proxy.to_https[0].id
}

# Floods end here: the functions' own limits are on the size of a request and on
# its time, not on how many there are.
resource "google_compute_security_policy" "front" {
  count = local.balancer

  project     = var.project_id
  name        = "${var.name}-front"
  description = "Rates of requests to the connector, by address"

  adaptive_protection_config {
    layer_7_ddos_defense_config {
      enable = var.load_balancer.adaptive_protected
    }
  }

  rule {
    priority    = 1000
    action      = "throttle"
    description = "Requests of one address that cost more than a read"

    match {
      expr {
        expression = "request.method != 'OPTIONS' && request.path.matches('^(${join("|", local.costly_paths)})$')" # OPTIONS: a page that asks whether it may
      }
    }
    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"
      rate_limit_threshold {
        count        = local.changes_a_minute
        interval_sec = 60
      }
    }
  }

  rule {
    priority    = 2000
    action      = "throttle"
    description = "All requests of one address"

    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"
      rate_limit_threshold {
        count        = local.requests_a_minute
        interval_sec = 60
      }
    }
  }

  # The rule that every policy ends with; the one above leaves nothing for it.
  rule {
    priority    = 2147483647
    action      = "allow"
    description = "All else"

    match {
      versioned_expr = "SRC_IPS_V1"
      config {
        src_ip_ranges = ["*"]
      }
    }
  }

  depends_on = [google_project_service.api]
}
