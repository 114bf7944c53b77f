package edge

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"sync"
	"time"

	"fumidai/tests/emulator/iam"
)

// Principal is who a signature proves: a user with static keys or a task's role session.
type Principal struct {
	ARN  string // arn:aws:iam::…:user/… or arn:aws:sts::…:assumed-role/<role>/<task id>
	Role string // the role's ARN; empty for a user
	Task string // the task's ARN; empty for a user
}

// Key is one set of credentials, as the credentials endpoint serves them.
type Key struct {
	AccessKeyID     string
	SecretAccessKey string
	Token           string    // empty for static keys
	Expiration      time.Time // zero for static keys
	Principal       Principal
}

// Keys is every set of credentials the emulator has handed out.
type Keys struct {
	mu       sync.Mutex
	byID     map[string]*Key
	policies map[string][]*iam.Document // by ARN of a user or role
}

// Static makes (or replaces) a user's long-lived keys.
func (k *Keys) Static(id, secret string, p Principal) Key {
	return k.add(Key{AccessKeyID: id, SecretAccessKey: secret, Principal: p})
}

// Temporary makes role credentials that expire.
func (k *Keys) Temporary(p Principal, expiration time.Time) Key {
	return k.add(Key{
		AccessKeyID:     "ASIA" + base32.StdEncoding.EncodeToString(randomBytes(10)),
		SecretAccessKey: base64.StdEncoding.EncodeToString(randomBytes(30)),
		Token:           "IQoJb3JpZ2luX2Vj" + base64.StdEncoding.EncodeToString(randomBytes(600)),
		Expiration:      expiration,
		Principal:       p,
	})
}

// Expire makes all of a principal's temporary credentials expire at the given time.
func (k *Keys) Expire(arn string, at time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, key := range k.byID {
		if key.Principal.ARN == arn && key.Token != "" {
			key.Expiration = at
		}
	}
}

func (k *Keys) add(key Key) Key {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.byID == nil {
		k.byID = map[string]*Key{}
	}
	k.byID[key.AccessKeyID] = &key
	return key
}

func (k *Keys) find(id string) (Key, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := k.byID[id]
	if key == nil {
		return Key{}, false
	}
	return *key, true
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) //nolint:errcheck // never fails
	return b
}
