locals {
  # Indexes, lifetimes and exemptions of the database: shared/firestore/ says why
  # each, and tests derive them from the queries.
  firestore = jsondecode(file("${path.module}/files/indexes.json"))

  firestore_indexes = {
    for i in local.firestore.indexes :
    join(" ", concat([i.collectionGroup], [for f in i.fields : "${f.fieldPath}:${f.order}"])) => i
  }
  firestore_fields = { for f in local.firestore.fieldOverrides : "${f.collectionGroup} ${f.fieldPath}" => f }
}

resource "google_firestore_database" "state" {
  project     = var.project_id
  name        = var.firestore.database
  location_id = coalesce(var.firestore.location, var.region)
  type        = "FIRESTORE_NATIVE"

  # Transactions over the same document wait for each other: setups hold a
  # document by a lease and do not collide, and a poll never locks.
  concurrency_mode = "PESSIMISTIC"

  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  delete_protection_state           = var.deletion_protection ? "DELETE_PROTECTION_ENABLED" : "DELETE_PROTECTION_DISABLED"
  deletion_policy                   = var.deletion_protection ? "PREVENT" : "DELETE"

  depends_on = [google_project_service.api]
}

resource "google_firestore_backup_schedule" "daily" {
  project   = var.project_id
  database  = google_firestore_database.state.name
  retention = "${var.firestore.daily_backup_days * 24 * 60 * 60}s"

  daily_recurrence {}
}

resource "google_firestore_backup_schedule" "weekly" {
  project   = var.project_id
  database  = google_firestore_database.state.name
  retention = "${var.firestore.weekly_backup_days * 24 * 60 * 60}s"

  weekly_recurrence {
    day = "SUNDAY"
  }
}

resource "google_firestore_index" "index" {
  for_each = local.firestore_indexes

  project     = var.project_id
  database    = google_firestore_database.state.name
  collection  = each.value.collectionGroup
  query_scope = each.value.queryScope

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path = fields.value.fieldPath
      order      = fields.value.order
    }
  }

  # An index over existing documents can take longer than the provider's 20 minutes.
  # Google still builds it when Terraform has timed out: see "An index takes too long"
  # in the README.
  timeouts {
    create = "75m"
  }
}

resource "google_firestore_field" "field" {
  for_each = local.firestore_fields

  project    = var.project_id
  database   = google_firestore_database.state.name
  collection = each.value.collectionGroup
  field      = each.value.fieldPath

  index_config {
    dynamic "indexes" {
      for_each = each.value.indexes
      content {
        order       = indexes.value.order
        query_scope = indexes.value.queryScope
      }
    }
  }

  dynamic "ttl_config" {
    for_each = try(each.value.ttl, false) ? [true] : []
    content {}
  }

  timeouts {
    create = "75m"
    update = "75m"
  }
}
