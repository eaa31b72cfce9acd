package smtp

// Ret is the RET parameter of MAIL (RFC 3461 4.3): how much of the message a
// report of failure returns.
type Ret uint8

// The values of RET. The zero Ret was not given: we return the header.
const (
	RetUnset Ret = iota
	RetFull
	RetHeaders
)

// Notify is the NOTIFY parameter of RCPT (RFC 3461 4.1), a set. The zero Notify
// was not given; RFC 3461 4.1: it then is "treated as if" FAILURE, and DELAY by
// the server's choice.
type Notify uint8

// The elements of NOTIFY. NotifyNever stands alone.
const (
	NotifyNever Notify = 1 << iota
	NotifySuccess
	NotifyFailure
	NotifyDelay
)

// A BodyType is the BODY parameter of MAIL (RFC 6152 3).
type BodyType string

// The values of BODY. The empty BodyType was not given.
const (
	Body7Bit     BodyType = "7BIT"
	Body8BitMIME BodyType = "8BITMIME"
)

// MailParams are the parameters of MAIL. The zero value has none.
type MailParams struct {
	Size  int64 // SIZE= (RFC 1870); 0: not given
	Body  BodyType
	UTF8  bool // SMTPUTF8 (RFC 6531)
	Ret   Ret
	EnvID string // ENVID=, xtext decoded
}

// RcptParams are the parameters of RCPT. The zero value has none.
type RcptParams struct {
	Notify Notify
	ORcpt  string // ORCPT= as it came, "type;xtext"
}
