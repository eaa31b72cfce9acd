package postrider

import "github.com/postrider/postrider/smtp"

// A Role is what a listener is for.
type Role string

// The roles of a listener. The empty Role is RoleMX.
const (
	RoleMX         Role = "mx"         // anyone hands in mail for our domains
	RoleSubmission Role = "submission" // users hand in mail for anyone, after AUTH (RFC 6409)
	RoleLMTP       Role = "lmtp"       // another server hands in mail for our domains (RFC 2033)
)

// A Submitter is who a client has authenticated as.
type Submitter interface {
	// Name is that of the account, for Source.Account.
	Name() string
	// MaySend reports whether mail of the account may have the reverse-path from.
	MaySend(from smtp.Path) bool
}
