# Vault is not made here: it is yours. This is what the connector needs of it, as
# commands for somebody who may administer it (output vault_commands).
locals {
  vault_policy = replace(file("${path.module}/files/policy.hcl"), "gcpconnect/", "${var.vault.mount}/")

  # The accounts that log in: those of the functions that use users' tokens.
  vault_accounts = sort([for key, a in local.accounts : a.email if a.tokens])

  vault_commands = templatefile("${path.module}/files/vault.sh.tftpl", {
    address    = var.vault.address
    namespace  = var.vault.namespace
    mount      = var.vault.mount
    auth_mount = var.vault.auth_mount
    role       = var.vault.role
    policy     = local.vault_policy
    accounts   = local.vault_accounts
  })
}
