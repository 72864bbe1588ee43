terraform {
  required_version = ">= 1.9"

  # State holds no secrets, and says all of how the connector is made: keep it in a
  # bucket with versions, to which few have access.
  # backend "gcs" { bucket = "PROJECT-terraform" }

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 7.40, < 8.0"
    }
  }
}
