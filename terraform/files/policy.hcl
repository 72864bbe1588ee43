# What the connector needs of Vault, with its key-value store (version 2) at gcpconnect/.
# Everything else is denied.

# Users' tokens: written with check-and-set, and read.
path "gcpconnect/data/tokens/*" {
  capabilities = ["create", "update", "read"]
}

# A disconnect deletes every version of a token. Listing is not needed: tokens
# are found by their references only.
path "gcpconnect/metadata/tokens/*" {
  capabilities = ["delete"]
}

# The connector's own Vault token: how long it lasts, and renewing it.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}
path "auth/token/renew-self" {
  capabilities = ["update"]
}
