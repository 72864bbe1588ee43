package services_test

import (
	"gcpconnect/emulators/parts"
	"gcpconnect/emulators/stack/stacktest"
)

// services are the parts that the processes of a system share.
type services struct {
	firestore *parts.Firestore
	vault     *parts.Vault
}

func (s services) environment() map[string]string {
	environment := stacktest.Services{Firestore: s.firestore, Vault: s.vault}.Environment()
	environment["VERIFY_INTERVAL"] = "1s"
	return environment
}
