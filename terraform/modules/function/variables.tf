variable "project_id" {
  description = "The project of the service."
  type        = string
  nullable    = false
}

variable "region" {
  description = "Where the service is."
  type        = string
  nullable    = false
}

variable "name" {
  description = "The service's name. With the project's number and a hyphen it is a label of the service's address, which has 63 characters at most."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]([a-z0-9-]{0,47}[a-z0-9])?$", var.name))
    error_message = "name must have 1 to 49 lower-case letters, digits and hyphens."
  }
}

variable "function" {
  description = "The function that the service is (FUNCTION_TARGET)."
  type        = string
  nullable    = false
}

variable "image" {
  description = "The program's image, by digest."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image must name a digest."
  }
}

variable "service_account" {
  description = "Email of the account that the service runs as."
  type        = string
  nullable    = false
}

variable "environment" {
  description = "Its environment variables. No secrets: sm://projects/P/secrets/S refers to one."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setintersection(keys(var.environment), ["FUNCTION_TARGET", "PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"])) == 0
    error_message = "environment must not set what the module and Cloud Run set: FUNCTION_TARGET, PORT and K_*."
  }
}

variable "timeout" {
  description = "How long a request may take, such as 105s. It must be more than the program's own limits and less than the deadline of the tasks that call it."
  type        = string
  default     = "105s"
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]+s$", var.timeout)) && try(tonumber(trimsuffix(var.timeout, "s")) > 100 && tonumber(trimsuffix(var.timeout, "s")) < 110, false)
    error_message = "timeout must be 101s to 109s: the program ends an answer after 100 s, and a task is delivered again after 110 s."
  }
}

variable "network" {
  description = "The VPC network and subnetwork that the service's requests leave through; null: none."
  type = object({
    network    = string
    subnetwork = string
    egress     = string
  })
  default = null
}

variable "scaling" {
  description = "Instances, processors and memory of each, and requests at once to each; null: the defaults. Two callers share an instance's processor well: a function waits for others most of the time."
  type = object({
    min_instances = optional(number, 0)
    max_instances = optional(number, 20)
    cpu           = optional(string, "1")
    memory        = optional(string, "512Mi")
    concurrency   = optional(number, 80)
  })
  default = null
}

variable "regional_cpu" {
  description = "Processors that Cloud Run gives the project in the region."
  type        = number
  default     = 20
  nullable    = false
}

variable "regional_memory" {
  description = "GiB of memory that Cloud Run gives the project in the region."
  type        = number
  default     = 40
  nullable    = false
}

variable "ingress" {
  description = "From where requests come in: internal (this project's own services, Cloud Tasks and Cloud Scheduler among them), load_balancer (those and the load balancer), or all."
  type        = string
  default     = "internal"
  nullable    = false

  validation {
    condition     = contains(["internal", "load_balancer", "all"], var.ingress)
    error_message = "ingress must be internal, load_balancer or all."
  }
}

variable "invoker_iam_check" {
  description = "Whether Cloud Run checks that callers may invoke the service. Only for functions that verify their callers themselves may it be off."
  type        = bool
  default     = true
  nullable    = false
}

variable "invokers" {
  description = "Who may invoke the service, such as serviceAccount:EMAIL."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "deletion_protected" {
  description = "Whether Terraform refuses to delete the service."
  type        = bool
  default     = true
  nullable    = false
}
