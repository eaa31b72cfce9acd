package smtp

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Names of the mechanisms of RFC 7677. PLUS is the one that is bound to its
// channel: nobody in between can pass it on.
const (
	SCRAM     = "SCRAM-SHA-256"
	SCRAMPlus = "SCRAM-SHA-256-PLUS"
)

// Bounds of SCRAM. RFC 7677 4: "the hash iteration-count SHOULD be at least
// 4096"; a server that says less asks for a proof that is cheap to guess from,
// and one that says very much more, for our time.
const (
	scramIterationsMin = 4096
	scramIterationsMax = 2_000_000
	scramSaltMax       = 128  // octets
	scramMessageMax    = 4096 // octets
	scramNonceSize     = 18   // octets of ours, before base64
)

// SCRAMKeys are what a server keeps in place of a password (RFC 5802 3). They do
// not let anyone in, but who has them can guess at the password offline, at the
// cost of Iterations for each guess, and can pass for the server.
type SCRAMKeys struct {
	Salt       []byte // 1 to 128 octets
	Iterations int    // 4096 to 2,000,000
	StoredKey  [sha256.Size]byte
	ServerKey  [sha256.Size]byte
}

// NewSCRAMKeys makes the keys of a password, which the caller has prepared: RFC
// 5802 2.2 asks for SASLprep (RFC 4013), which leaves printable ASCII as it is.
// The salt is kept, not copied. It takes some milliseconds for each 10,000
// iterations.
func NewSCRAMKeys(password string, salt []byte, iterations int) (SCRAMKeys, error) {
	salted, err := scramSalted(password, salt, iterations)
	if err != nil {
		return SCRAMKeys{}, err
	}
	k := SCRAMKeys{Salt: salt, Iterations: iterations, ServerKey: scramHMAC(salted, "Server Key")}
	client := scramHMAC(salted, "Client Key")
	k.StoredKey = sha256.Sum256(client[:])
	return k, nil
}

// errKeys is about the parameters of SCRAM.
var errKeys = errors.New("smtp: SCRAM takes a salt of 1 to 128 octets and 4096 to 2000000 iterations")

// scramSalted is the SaltedPassword of RFC 5802 3; Hi is PBKDF2.
func scramSalted(password string, salt []byte, iterations int) ([]byte, error) {
	if len(salt) == 0 || len(salt) > scramSaltMax || iterations < scramIterationsMin || iterations > scramIterationsMax {
		return nil, errKeys
	}
	key, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("smtp: SCRAM: %w", err)
	}
	return key, nil
}

// scramHMAC is HMAC of RFC 5802 2.2.
func scramHMAC(key []byte, text string) (sum [sha256.Size]byte) {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	m.Sum(sum[:0])
	return sum
}

// scramProves reports whether a ClientProof is that of the password of k: it
// yields the ClientKey, whose hash is stored. It takes the same time for each.
func scramProves(k SCRAMKeys, auth string, proof []byte) bool {
	if len(proof) != sha256.Size {
		return false
	}
	key := scramHMAC(k.StoredKey[:], auth)
	subtle.XORBytes(key[:], key[:], proof)
	sum := sha256.Sum256(key[:])
	return subtle.ConstantTimeCompare(sum[:], k.StoredKey[:]) == 1
}

// A scramFirst is a client-first-message (RFC 5802 7).
type scramFirst struct {
	header gs2Header
	user   string
	nonce  string
	ext    []string // extensions, which nobody knows yet
}

// bare is the client-first-message-bare.
func (m scramFirst) bare() string {
	return strings.Join(append([]string{"n=" + encodeName(m.user), "r=" + m.nonce}, m.ext...), ",")
}

// String returns the message as it is sent.
func (m scramFirst) String() string { return m.header.String() + m.bare() }

// Errors of a message. RFC 5802 5.1: "Mandatory extensions sent by one peer but
// not understood by the other MUST cause authentication failure".
var (
	errMandatory = errors.New("smtp: SCRAM: an extension that is not known here must be understood")
	errSCRAM     = errors.New("smtp: that is no message of SCRAM")
)

// parseScramFirst reads a client-first-message.
func parseScramFirst(message string) (m scramFirst, err error) {
	header, bare, ok := parseGS2(message)
	if !ok || len(message) > scramMessageMax {
		return m, errSCRAM
	}
	m.header = header
	f, err := scramFields(bare, "n", "r")
	if err != nil {
		return m, err
	}
	if m.user, ok = decodeName(f[0]); !ok || !isNonce(f[1]) {
		return m, errSCRAM
	}
	m.nonce, m.ext = f[1], f[2:]
	return m, nil
}

// A scramChallenge is a server-first-message.
type scramChallenge struct {
	nonce      string
	salt       []byte
	iterations int
	ext        []string
}

// String returns the message as it is sent.
func (m scramChallenge) String() string {
	return strings.Join(append([]string{"r=" + m.nonce, "s=" + scramBase64(m.salt), "i=" + strconv.Itoa(m.iterations)}, m.ext...), ",")
}

// parseScramChallenge reads a server-first-message.
func parseScramChallenge(message string) (m scramChallenge, err error) {
	f, err := scramFields(message, "r", "s", "i")
	if err != nil {
		return m, err
	}
	salt, ok := DecodeSASL(f[1])
	n, err := strconv.Atoi(f[2])
	if !ok || err != nil || n <= 0 || strconv.Itoa(n) != f[2] || !isNonce(f[0]) { // posit-number
		return m, errSCRAM
	}
	return scramChallenge{nonce: f[0], salt: salt, iterations: n, ext: f[3:]}, nil
}

// A scramFinal is a client-final-message.
type scramFinal struct {
	binding []byte // cbind-input: the header, and the octets of the channel
	nonce   string
	ext     []string
	proof   []byte
}

// bare is the client-final-message-without-proof.
func (m scramFinal) bare() string {
	return strings.Join(append([]string{"c=" + scramBase64(m.binding), "r=" + m.nonce}, m.ext...), ",")
}

// String returns the message as it is sent.
func (m scramFinal) String() string { return m.bare() + ",p=" + scramBase64(m.proof) }

// parseScramFinal reads a client-final-message.
func parseScramFinal(message string) (m scramFinal, err error) {
	at := strings.LastIndex(message, ",p=")
	if at < 0 {
		return m, errSCRAM
	}
	f, err := scramFields(message[:at], "c", "r")
	if err != nil {
		return m, err
	}
	var bound, proved bool
	m.binding, bound = DecodeSASL(f[0])
	m.proof, proved = DecodeSASL(message[at+len(",p="):])
	if !bound || !proved || !isNonce(f[1]) {
		return m, errSCRAM
	}
	m.nonce, m.ext = f[1], f[2:]
	return m, nil
}

// scramFields reads the attributes of a message: the values of those that are
// named, in their order, and after them the extensions as they are.
func scramFields(message string, names ...string) ([]string, error) {
	if len(message) > scramMessageMax || !isSASLText(message) {
		return nil, errSCRAM
	}
	if strings.HasPrefix(message, "m=") {
		return nil, errMandatory
	}
	f := strings.Split(message, ",")
	if len(f) < len(names) {
		return nil, errSCRAM
	}
	for i, name := range names {
		value, ok := strings.CutPrefix(f[i], name+"=")
		if !ok || value == "" {
			return nil, errSCRAM
		}
		f[i] = value
	}
	for _, ext := range f[len(names):] { // attr-val = ALPHA "=" value
		if len(ext) < 3 || ext[1] != '=' || !(ext[0] >= 'a' && ext[0] <= 'z' || ext[0] >= 'A' && ext[0] <= 'Z') {
			return nil, errSCRAM
		}
		if ext[0] == 'm' {
			return nil, errMandatory
		}
	}
	return f, nil
}

// isNonce reports whether s is 1*printable of RFC 5802 7: visible ASCII without a
// comma.
func isNonce(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < 0x21 || r > 0x7e || r == ',' })
}

func scramBase64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
