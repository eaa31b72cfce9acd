package smtp

import "fmt"

// A Reply is a reply of RFC 5321 4.2 with its enhanced status code (RFC 2034).
// The zero Reply is 451 4.3.0: who forgot to say what happened asks the client
// to come again. To accept, write OK or another 2yz reply.
type Reply struct {
	Code   int    // three digits; 0 stands for 451
	Status Status // zero: none is sent, but for the zero Reply
	Text   string // one line of text, or several joined by "\n"; never with the codes
}

// OK is the plain 250 2.0.0.
var OK = Reply{Code: 250, Status: Status{2, 0, 0}, Text: "OK"}

// A Status is an enhanced mail system status code, class.subject.detail
// (RFC 3463 2).
type Status struct {
	Class   uint8
	Subject uint16
	Detail  uint16
}

// String returns the dotted form, such as "5.1.1".
func (s Status) String() string {
	return fmt.Sprintf("%d.%d.%d", s.Class, s.Subject, s.Detail)
}

// IsZero reports whether there is no status.
func (s Status) IsZero() bool { return s == Status{} }

// IsZero reports whether r is the zero Reply.
func (r Reply) IsZero() bool { return r == Reply{} }

// Positive reports 2yz, Intermediate 3yz, Temporary 4yz and Permanent 5yz
// (RFC 5321 4.2.1). The zero Reply is Temporary. A code outside 2yz to 5yz is
// Temporary too: a reply that nobody can read is no reason to give up mail.
func (r Reply) Positive() bool     { return r.Code/100 == 2 }
func (r Reply) Intermediate() bool { return r.Code/100 == 3 }
func (r Reply) Permanent() bool    { return r.Code/100 == 5 }
func (r Reply) Temporary() bool {
	return !r.Positive() && !r.Intermediate() && !r.Permanent()
}
