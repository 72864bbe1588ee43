variable "project_id" {
  description = "The project of the connector itself. Give it one of its own: what is in it can reach customers' clouds."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project_id))
    error_message = "project_id must be a project's ID, such as aurora-connector: 6 to 30 lower-case letters, digits and hyphens."
  }
}

variable "project_number" {
  description = "Its number, which is in the functions' addresses: gcloud projects describe PROJECT --format='value(projectNumber)'. Asked for rather than looked up, so that a plan needs no access to the project."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{6,20}$", var.project_number))
    error_message = "project_number must be the project's number, which has digits only."
  }
}

variable "region" {
  description = "Where functions and queues are."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "region must be a region, such as europe-west1."
  }
}

variable "name" {
  description = "What all that is made begins with. At most 6 characters: a service account's ID has 30, and a function's name up to 23."
  type        = string
  default     = "aurora"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,5}$", var.name))
    error_message = "name must have 2 to 6 lower-case letters and digits, and begin with a letter."
  }
}

variable "image" {
  description = "The program's image, by digest. Without one, all is made but the functions and what calls them: so the registry is there before there is an image."
  type        = string
  default     = null

  validation {
    condition     = var.image == null || can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image must name a digest, REGION-docker.pkg.dev/PROJECT/REPOSITORY/gcpconnect@sha256:...: a tag can be moved under a running deployment."
  }
}

variable "oauth_client_id" {
  description = "ID of the Google OAuth client (type: web application). Its secret is put into Secret Manager by hand."
  type        = string
  nullable    = false

  validation {
    condition     = endswith(var.oauth_client_id, ".apps.googleusercontent.com")
    error_message = "oauth_client_id must be the ID of an OAuth client, which ends in .apps.googleusercontent.com."
  }
}

variable "front_url" {
  description = "Where the browser goes after the callback: a page of Aurora's frontend."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^https://[^/#?@]+(/[^#]*)?$", var.front_url))
    error_message = "front_url must be an https URL without a fragment."
  }
}

variable "cors_origins" {
  description = "Origins of the pages that may call the functions. Empty: front_url's."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for o in var.cors_origins : can(regex("^https://[^/#?@*]+$", o))])
    error_message = "cors_origins must be origins such as https://aurora.example.com, without path and wildcard."
  }
}

variable "auth" {
  description = <<-EOT
    Who users are. mode "backend": Aurora's backend names them, and proves by an ID token of one of
    backend_service_accounts for audience that it is it. mode "oidc": users' own tokens of issuer for audience name them.
    internal_service_accounts may have access tokens of users' service accounts (POST /internal/token).
    audience defaults to the address of the functions with mode "backend".
  EOT
  type = object({
    mode                      = optional(string, "backend")
    backend_service_accounts  = optional(list(string), [])
    issuer                    = optional(string)
    audience                  = optional(list(string), [])
    internal_service_accounts = optional(list(string), [])
  })
  nullable = false

  validation {
    condition     = contains(["backend", "oidc"], var.auth.mode)
    error_message = "auth.mode must be backend or oidc. AUTH=local believes what callers say and is refused on Cloud Run."
  }
  validation {
    condition     = var.auth.mode != "backend" || length(var.auth.backend_service_accounts) > 0
    error_message = "auth.backend_service_accounts must name the service accounts of Aurora's backend with auth.mode = backend."
  }
  validation {
    condition     = var.auth.mode != "oidc" || (can(regex("^https://", var.auth.issuer)) && length(var.auth.audience) > 0)
    error_message = "auth.issuer (https) and auth.audience must be set with auth.mode = oidc."
  }
  validation {
    condition     = alltrue([for a in concat(var.auth.backend_service_accounts, var.auth.internal_service_accounts) : can(regex("^[a-z0-9-]+@[a-z0-9.-]+\\.gserviceaccount\\.com$", a))])
    error_message = "auth.backend_service_accounts and auth.internal_service_accounts must be emails of service accounts, without a prefix such as serviceAccount:."
  }
}

variable "login_binding" {
  description = "How a login is bound to its user: cookie, of the browser that called login on the load balancer's domain; or confirm, where the user confirms after the callback. Default: cookie with auth.mode = oidc and a load balancer, else confirm: a backend that calls login has no browser's cookies, and the functions' own addresses share none."
  type        = string
  default     = null

  validation {
    condition     = var.login_binding == null || contains(["cookie", "confirm"], coalesce(var.login_binding, "cookie"))
    error_message = "login_binding must be cookie or confirm."
  }
  validation {
    condition     = var.login_binding != "cookie" || var.load_balancer != null
    error_message = "login_binding = cookie needs a load_balancer: login and callback would be on different hosts, and the cookie of one never reaches the other."
  }
  validation {
    condition     = var.login_binding != "cookie" || var.auth.mode == "oidc"
    error_message = "login_binding = cookie needs auth.mode = oidc: with auth.mode = backend the backend's server calls login, and no browser gets the cookie."
  }
}

variable "vault" {
  description = "Vault, which keeps users' tokens: its address, and the mounts and the role that terraform/README.md shows how to make. service_account is what Vault is at Google: it asks there about the accounts that log in. There is no default for a Vault that holds tokens."
  type = object({
    address    = string
    namespace  = optional(string)
    mount      = optional(string, "gcpconnect")
    auth_mount = optional(string, "gcp")
    role       = optional(string, "gcpconnect")

    ca_certificate  = optional(string) # PEM, of an authority of your own
    service_account = optional(string) # email of what Vault itself is at Google
  })
  nullable = false

  validation {
    condition     = can(regex("^https://[^/#?@]+(:[0-9]+)?$", var.vault.address))
    error_message = "vault.address must be https://host or https://host:port. Tokens do not travel in the clear."
  }
}

variable "network" {
  description = "The VPC network and subnetwork through which functions reach Vault, for one that has no public address; egress PRIVATE_RANGES_ONLY, or ALL_TRAFFIC where it must leave through your NAT. Default: none."
  type = object({
    network    = string
    subnetwork = string
    egress     = optional(string, "PRIVATE_RANGES_ONLY")
  })
  default = null

  validation {
    condition     = var.network == null || contains(["PRIVATE_RANGES_ONLY", "ALL_TRAFFIC"], try(var.network.egress, ""))
    error_message = "network.egress must be PRIVATE_RANGES_ONLY or ALL_TRAFFIC."
  }
}

variable "load_balancer" {
  description = <<-EOT
    The global load balancer before users' functions, with the contract's paths on one domain. Limits are requests of one
    address in a minute: of all, and of those that ask Google, begin a login or change something; by default 600 and 60, and
    ten times that with auth.mode = backend, where all users come from the backend's addresses. Default: no load balancer, and users'
    functions are reached at addresses of their own.
  EOT
  type = object({
    domain             = string
    requests_a_minute  = optional(number)
    changes_a_minute   = optional(number)
    log_sample_rate    = optional(number, 1)
    adaptive_protected = optional(bool, true)
  })
  default = null

  validation {
    condition     = var.load_balancer == null || can(regex("^([a-z0-9-]+\\.)+[a-z]{2,}$", var.load_balancer.domain))
    error_message = "load_balancer.domain must be a domain, such as connect.aurora.example.com."
  }
  validation {
    condition     = var.load_balancer == null || try(coalesce(var.load_balancer.requests_a_minute, 600) >= 60 && coalesce(var.load_balancer.changes_a_minute, 60) >= 10 && coalesce(var.load_balancer.changes_a_minute, 60) <= coalesce(var.load_balancer.requests_a_minute, 600), false)
    error_message = "load_balancer.requests_a_minute must be at least 60 (a page polls every 5 s, and a company can have one address), and changes_a_minute 10 to that."
  }
}

variable "public_access" {
  description = "How Cloud Run lets users reach their functions, which verify callers themselves: iam_check_disabled (works under domain-restricted sharing, not under run.managed.requireInvokerIam; leaves callers' tokens as they are), or all_users (the role run.invoker for allUsers; the other way about)."
  type        = string
  default     = "iam_check_disabled"
  nullable    = false

  validation {
    condition     = contains(["iam_check_disabled", "all_users"], var.public_access)
    error_message = "public_access must be iam_check_disabled or all_users."
  }
}

variable "scaling" {
  description = "Instances, processors, memory and concurrent requests, by function; what is not set is as for all others (concurrency: 80, and 16 of discover-project)."
  type = map(object({
    min_instances = optional(number, 0)
    max_instances = optional(number, 20)
    cpu           = optional(string, "1")
    memory        = optional(string, "512Mi")
    concurrency   = optional(number)
  }))
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for f in keys(var.scaling) : contains(keys(local.functions), f)])
    error_message = "scaling has a function that does not exist; there are ${join(", ", keys(local.functions))}."
  }
  validation {
    condition     = alltrue([for s in values(var.scaling) : s.min_instances >= 0 && s.max_instances >= max(1, s.min_instances) && s.max_instances <= 100 && coalesce(s.concurrency, 80) >= 1 && coalesce(s.concurrency, 80) <= 1000])
    error_message = "scaling: max_instances must be 1 to 100 and not less than min_instances, concurrency 1 to 1000."
  }
  validation {
    condition     = alltrue([for s in values(var.scaling) : can(regex("^[1-9][0-9]*(Mi|Gi)$", s.memory))])
    error_message = "scaling: memory must be as 512Mi or 1Gi."
  }
  validation {
    condition     = alltrue([for s in values(var.scaling) : can(regex("^([1-8]|0?[.][0-9]{1,3}|[1-9][0-9]{1,3}m)$", s.cpu))])
    error_message = "scaling: cpu must be processors, such as 1, or thousandths, such as 500m."
  }
}

variable "regional_cpu" {
  description = "Processors that Cloud Run gives the project in the region: its quota CpuAllocPerProjectRegion / 1000, 20 in new projects. A service with more (max_instances x cpu) is refused."
  type        = number
  default     = 20
  nullable    = false

  validation {
    condition     = var.regional_cpu >= 1
    error_message = "regional_cpu must be at least 1."
  }
}

variable "regional_memory" {
  description = "GiB of memory that Cloud Run gives the project in the region: its quota MemAllocPerProjectRegion, 40 in new projects. A service with more (max_instances x memory) is refused."
  type        = number
  default     = 40
  nullable    = false

  validation {
    condition     = var.regional_memory >= 1
    error_message = "regional_memory must be at least 1."
  }
}

variable "settings" {
  description = "Choices about setups; null is the program's default. The README's table of variables says what each is."
  type = object({
    agent_roles            = optional(list(string))
    ask_roles              = optional(list(string))
    include_sys_projects   = optional(bool)
    log_level              = optional(string)
    max_auto_projects      = optional(number)
    max_selected_projects  = optional(number)
    platform_quota         = optional(number)
    setup_give_up_after    = optional(string)
    task_max_attempts      = optional(number, 20)
    trace_ratio            = optional(number)
    update_org_policies    = optional(bool)
    verify_attempts        = optional(number)
    verify_interval        = optional(string)
    platform_impersonates  = optional(bool, true)
    telemetry_to_google    = optional(bool, true)
    telemetry_endpoint     = optional(string)
    scheduler_paused       = optional(bool, false)
    task_log_sampling_rate = optional(number, 0.1)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.settings.task_max_attempts >= 8 && var.settings.task_max_attempts <= 100
    error_message = "settings.task_max_attempts must be 8 to 100: fewer end before the lease of a crashed step does."
  }
  validation {
    condition     = alltrue([for r in concat(coalesce(var.settings.agent_roles, []), coalesce(var.settings.ask_roles, [])) : !can(regex("^roles/(owner|editor)(=|$)", r))])
    error_message = "settings.agent_roles and settings.ask_roles may not have owner or editor: customers' clouds are not ours."
  }
  validation {
    condition     = var.settings.log_level == null || contains(["DEBUG", "INFO"], coalesce(var.settings.log_level, "INFO"))
    error_message = "settings.log_level must be DEBUG or INFO: alerts count lines of INFO, and would be silent above it."
  }
}

variable "firestore" {
  description = "The database: where it is (a region, or a multi-region such as eur3 or nam5; it cannot be changed), its name, and for how many days backups are kept."
  type = object({
    location           = optional(string)
    database           = optional(string, "(default)")
    daily_backup_days  = optional(number, 7)
    weekly_backup_days = optional(number, 56)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.firestore.daily_backup_days >= 1 && var.firestore.daily_backup_days <= 98 && var.firestore.weekly_backup_days >= 7 && var.firestore.weekly_backup_days <= 98
    error_message = "firestore.daily_backup_days must be 1 to 98, weekly_backup_days 7 to 98: Firestore keeps backups for 14 weeks at most."
  }
}

variable "deletion_protection" {
  description = "Whether Terraform and Google refuse to delete the database and the services. Turn it off, and apply, before you destroy."
  type        = bool
  default     = true
  nullable    = false
}

variable "alerts" {
  description = "Who is told when something is wrong: emails, and IDs of notification channels that exist (projects/P/notificationChannels/N). Without any, incidents are in Cloud Monitoring only."
  type = object({
    emails        = optional(list(string), [])
    channels      = optional(list(string), [])
    playbook_base = optional(string, "terraform/README.md")
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for c in var.alerts.channels : can(regex("^projects/[^/]+/notificationChannels/[^/]+$", c))])
    error_message = "alerts.channels must be IDs of notification channels, projects/P/notificationChannels/N."
  }
  validation {
    condition     = alltrue([for e in var.alerts.emails : can(regex("^[^@ ]+@[^@ ]+$", e))])
    error_message = "alerts.emails must be email addresses."
  }
}

variable "budget" {
  description = "A budget a month for the project, in the billing account's currency, that tells at 50, 90 and 100 % and when the forecast exceeds it. Default: none."
  type = object({
    billing_account = string
    amount          = number
  })
  default = null

  validation {
    condition     = var.budget == null || try(var.budget.amount >= 1 && can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account)), false)
    error_message = "budget needs an amount of 1 or more and a billing_account such as 012345-6789AB-CDEF01."
  }
}

variable "delivery" {
  description = <<-EOT
    Releases by Cloud Build from a repository that is connected to it (projects/P/locations/L/connections/C/repositories/R):
    pushes to branch (a regular expression) are built and planned, and deployed when one of approvers
    (user:EMAIL or group:EMAIL) says so. bucket has Terraform's state and variables; root is the folder that Terraform
    runs in. Default: none, and releases are by hand.
  EOT
  type = object({
    repository = string
    branch     = optional(string, "^main$")
    bucket     = string
    root       = optional(string, "terraform/examples/production")
    approvers  = list(string)
  })
  default = null

  validation {
    condition     = var.delivery == null || can(regex("^projects/[^/]+/locations/[^/]+/connections/[^/]+/repositories/[^/]+$", var.delivery.repository))
    error_message = "delivery.repository must be projects/P/locations/L/connections/C/repositories/R: connect the repository to Cloud Build first."
  }
  validation {
    condition     = var.delivery == null || try(length(var.delivery.approvers) > 0 && alltrue([for a in var.delivery.approvers : can(regex("^(user|group):[^@ ]+@[^@ ]+$", a))]), false)
    error_message = "delivery.approvers must name who may approve deployments, as user:EMAIL or group:EMAIL."
  }
}
