package memory

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"gcpconnect/shared/connect"
)

// Vault is a connect.Vault in memory. As in Vault's KV version 2, a write
// names the version that it replaces, and versions begin again at 1 after a
// delete.
type Vault struct {
	mu     sync.Mutex
	counts Counts
	tokens map[connect.TokenRef]sealed
}

var _ connect.Vault = (*Vault)(nil)

type sealed struct {
	token   connect.Token
	version int
}

// NewVault returns an empty vault.
func NewVault() *Vault { return &Vault{tokens: map[connect.TokenRef]sealed{}} }

// Format keeps the tokens out of print: fmt shows fields that are not exported
// without asking their types.
func (v *Vault) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "a Vault in memory") }

// Counts returns what the vault has done so far. It has no transactions.
func (v *Vault) Counts() Counts {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.counts
}

// Put stores a token in place of that version, 0 for none.
func (v *Vault) Put(ctx context.Context, ref connect.TokenRef, t connect.Token, version int) (int, error) {
	if err := alive(ctx); err != nil {
		return 0, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.tokens[ref].version != version {
		return 0, connect.Errorf(connect.Conflict, "Another request has changed these tokens.")
	}
	v.tokens[ref] = sealed{token: clone(t), version: version + 1}
	v.counts.Writes++
	return version + 1, nil
}

// Get returns the token and its version.
func (v *Vault) Get(ctx context.Context, ref connect.TokenRef) (connect.Token, int, error) {
	if err := alive(ctx); err != nil {
		return connect.Token{}, 0, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.counts.Reads++
	s, found := v.tokens[ref]
	if !found {
		return connect.Token{}, 0, connect.Errorf(connect.NotFound, "There are no tokens of this connection.")
	}
	return clone(s.token), s.version, nil
}

// Delete removes the token.
func (v *Vault) Delete(ctx context.Context, ref connect.TokenRef) error {
	if err := alive(ctx); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, found := v.tokens[ref]; found {
		delete(v.tokens, ref)
		v.counts.Deletes++
	}
	return nil
}

func clone(t connect.Token) connect.Token {
	t.Scopes = slices.Clone(t.Scopes)
	return t
}
