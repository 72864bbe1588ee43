package config

import (
	"net"
	"strings"
)

// Real reports whether state, tokens and tasks are kept by the real services.
func (c *Config) Real() bool { return c.Backends == "real" }

// isQueueName reports whether a name is the full one of a queue
// (https://cloud.google.com/tasks/docs/reference/rest/v2/projects.locations.queues).
func isQueueName(name string) bool {
	const lower, upper, maxID = "abcdefghijklmnopqrstuvwxyz0123456789-", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", 100
	parts := strings.Split(name, "/")
	return len(parts) == 6 && parts[0] == "projects" && parts[2] == "locations" && parts[4] == "queues" &&
		consists(parts[1], lower+".:") && consists(parts[3], lower) && consists(parts[5], lower+upper) && len(parts[5]) <= maxID
}

// consists reports whether a text is of these letters, and not empty.
func consists(text, letters string) bool { return text != "" && strings.Trim(text, letters) == "" }

// validateBackends reports what is wrong with where state, tokens and tasks are.
func (c *Config) validateBackends(fault func(variable, format string, args ...any)) {
	switch {
	case c.Backends != "memory" && c.Backends != "real":
		fault("BACKENDS", "is %q, must be memory or real", c.show("BACKENDS", c.Backends))
		return
	case !c.Real() && c.Service != "":
		fault("BACKENDS", "memory keeps everything in one process: it is refused on Cloud Run, where functions are many")
	}
	c.checkEmulator(fault, "FIRESTORE_EMULATOR_HOST", c.FirestoreEmulator)
	c.checkEmulator(fault, "CLOUD_TASKS_EMULATOR_HOST", c.TasksEmulator)
	if !c.Real() {
		return
	}
	if c.Project == "" {
		fault("GOOGLE_CLOUD_PROJECT", "is missing: it is the project of the Firestore database")
	}
	if c.Needs.Queue {
		c.validateQueue(fault)
	}
	if c.Needs.Tokens {
		c.validateVault(fault)
	}
}

func (c *Config) validateQueue(fault func(variable, format string, args ...any)) {
	c.checkQueue(fault, "CLOUD_TASKS_QUEUE", c.TaskQueue)
	if c.DiscoveryQueue != "" {
		c.checkQueue(fault, "CLOUD_TASKS_DISCOVERY_QUEUE", c.DiscoveryQueue)
	}
	if c.TaskServiceAccount == "" && (c.TasksEmulator == "" || c.Auth != AuthLocal) { // an emulator's tasks may do without
		fault("TASK_SERVICE_ACCOUNT", "is missing: it is the email of the service account in whose name tasks are delivered")
	}
	if c.TaskTarget == "" && c.TasksEmulator == "" {
		fault("TASK_TARGET", "is missing: it is where Cloud Tasks reaches a step function, with {function} for its name")
	}
}

func (c *Config) checkQueue(fault func(variable, format string, args ...any), variable, name string) {
	if !isQueueName(name) {
		fault(variable, "is %q, must be projects/P/locations/L/queues/Q", c.show(variable, name))
	}
}

func (c *Config) checkEmulator(fault func(variable, format string, args ...any), variable, address string) {
	if address == "" {
		return
	}
	if host, _, err := net.SplitHostPort(address); err != nil || host == "" {
		fault(variable, "is %q, must be host:port", c.show(variable, address))
	}
	if c.Service != "" {
		fault(variable, "is set: an emulator is refused on Cloud Run")
	}
}

func (c *Config) validateVault(fault func(variable, format string, args ...any)) {
	c.checkURL(fault, "VAULT_ADDR", c.VaultAddress)
	ways := 0
	for _, set := range []bool{c.VaultToken != "", c.VaultRoleID != "", c.VaultRole != ""} {
		if set {
			ways++
		}
	}
	if ways != 1 {
		fault("VAULT_TOKEN", "or VAULT_ROLE_ID or VAULT_ROLE must be set, and one of them only: it is how to log in to Vault")
	}
	if c.VaultRoleID != "" && c.VaultSecretID == "" {
		fault("VAULT_SECRET_ID", "is missing: it goes with VAULT_ROLE_ID")
	}
	if c.VaultRole != "" && c.VaultServiceAccount == "" {
		fault("VAULT_SERVICE_ACCOUNT", "is missing: it is the email of the account that this runs as, and goes with VAULT_ROLE")
	}
}
