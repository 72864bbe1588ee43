# All rules of the language; the registry's plugin for Google is not needed: the
# schema's values are checked by the tests.
plugin "terraform" {
  enabled = true
  preset  = "all"
}

# Files are by concern, as terraform/README.md lists them.
rule "terraform_standard_module_structure" {
  enabled = false
}
