package maildir

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/postrider/postrider"
)

// hostMax bounds the host part of a file name, in octets. With what readers add
// behind it, a name stays far below the 255 that file systems allow.
const hostMax = 64

// stem returns the part of a file name that says which message it is and for
// whom: seconds of the arrival, ID, and a hash of the address, so that a message
// to one address given twice is delivered once.
func stem(m *postrider.Message, rcpt int) string {
	sum := sha256.Sum256([]byte(m.Recipients[rcpt].To.String()))
	return strconv.FormatInt(m.Arrived.Unix(), 10) + "." + string(m.ID) + "R" + hex.EncodeToString(sum[:8])
}

// stemOf returns the stem of a file name: all before the second dot. What
// follows is the host, which may have changed, and the flags of a reader.
func stemOf(name string) string {
	first := strings.IndexByte(name, '.')
	second := strings.IndexByte(name[first+1:], '.')
	if first < 0 || second < 0 {
		return ""
	}
	return name[:first+1+second]
}

// nextName returns the name of a file that is made durable again: after the stem
// comes how often that was done. None comes back, so that who takes back a name of
// his own never takes that of another.
func nextName(name string) string {
	s := stemOf(name)
	rest := name[len(s)+1:]
	count, host, _ := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(count, 10, 16)
	if err != nil {
		n, host = 0, rest
	}
	return s + "." + strconv.FormatUint(n+1, 10) + "." + host
}

// hostPart makes a host name fit for a file name. A colon would begin the flags
// of a reader, a slash would end the name.
func hostPart(host string) string {
	if host == "" {
		return "localhost"
	}
	host = strings.Map(func(r rune) rune {
		switch {
		case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '.', r == '-':
			return r
		}
		return '_'
	}, host)
	return host[:min(len(host), hostMax)]
}
