package account

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
)

// How new passwords are hashed. Two hashes at once take 38 MiB.
const (
	hashMemory  = 19 << 10 // KiB
	hashTime    = 2
	hashThreads = 1
	saltSize    = 16 // octets
	keySize     = 32
)

// Bounds of the parameters that a file may name, so that one line of it cannot
// take the machine. An account with other parameters than ours is told from one
// that does not exist by the time that its hash takes.
const (
	memoryMax  = 64 << 10 // KiB
	timeMax    = 8
	threadsMax = 4
	saltMin    = 8
	keyMin     = 16
	octetsMax  = 64 // of salt, and of key
)

var errHash = errors.New("a password hash is $argon2id$v=19$m=M,t=T,p=P$SALT$HASH, with M up to 65536, T up to 8 and P up to 4")

// A hash is a password as the file keeps it.
type hash struct {
	memory, time uint32
	threads      uint8
	salt, key    []byte
}

// newHash returns the hash of a prepared password, with a new salt.
func newHash(password string) hash {
	h := hash{memory: hashMemory, time: hashTime, threads: hashThreads, salt: make([]byte, saltSize)}
	_, _ = rand.Read(h.salt) // never fails
	h.key = h.of(password, keySize)
	return h
}

// dummyHash returns a hash that no password has, and that takes the time of one
// that some password has: for names that nobody has.
func dummyHash() hash {
	h := hash{memory: hashMemory, time: hashTime, threads: hashThreads, salt: make([]byte, saltSize), key: make([]byte, keySize)}
	_, _ = rand.Read(h.salt) // never fails
	_, _ = rand.Read(h.key)  // never fails
	return h
}

// of returns the key that a password has with the salt of h.
func (h hash) of(password string, size int) []byte {
	return argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.threads, uint32(size))
}

// matches reports whether h is the hash of a prepared password.
func (h hash) matches(password string) bool {
	return subtle.ConstantTimeCompare(h.of(password, len(h.key)), h.key) == 1
}

// String returns the PHC string.
func (h hash) String() string {
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, h.memory, h.time, h.threads,
		b64.EncodeToString(h.salt), b64.EncodeToString(h.key))
}

// parseHash reads a PHC string.
func parseHash(s string) (hash, error) {
	f := strings.Split(s, "$")
	if len(f) != 6 || f[0] != "" || f[1] != "argon2id" || f[2] != "v="+strconv.Itoa(argon2.Version) {
		return hash{}, errHash
	}
	params := strings.Split(f[3], ",")
	if len(params) != 3 {
		return hash{}, errHash
	}
	var n [3]uint32
	for i, want := range [3]struct {
		name string
		max  uint64
	}{{"m=", memoryMax}, {"t=", timeMax}, {"p=", threadsMax}} {
		digits, ok := strings.CutPrefix(params[i], want.name)
		v, err := strconv.ParseUint(digits, 10, 32)
		if !ok || err != nil || v == 0 || v > want.max {
			return hash{}, errHash
		}
		n[i] = uint32(v)
	}
	h := hash{memory: n[0], time: n[1], threads: uint8(n[2])}
	var err error
	if h.salt, err = parseOctets(f[4], saltMin); err != nil {
		return hash{}, err
	}
	h.key, err = parseOctets(f[5], keyMin)
	return h, err
}

// parseOctets reads base64 without padding, of at least least octets.
func parseOctets(s string, least int) ([]byte, error) {
	b, err := base64.RawStdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < least || len(b) > octetsMax || strings.ContainsAny(s, "\r\n") {
		return nil, errHash
	}
	return b, nil
}
