// Package examples has no code: below it are small whole programs that use smtp,
// smtpd and smtpc, and nothing else of Postrider. Its test joins them.
package examples
