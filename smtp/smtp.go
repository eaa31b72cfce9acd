// Package smtp holds the words of the Simple Mail Transfer Protocol: paths,
// commands, parameters, replies, status codes, the mechanisms of authentication
// and the dot stream, as RFC 5321 and its extensions spell them. It reads no
// network and no clock, and starts no goroutine; packages smtpd and smtpc speak
// the protocol with it.
//
// A Path is an address, a Command a line, a Reply what is answered. What is parsed
// from a client (ParseCommand, ParseMail, ParseRcpt) comes with the Reply that refuses it,
// where it is wrong; what is parsed from a server (ReadReply, ParseExtension) with an
// error, or nothing. Parameters are fields of MailParams and RcptParams, and
// Extensions says which of them have been offered. A SASLClient and a SASLServer are
// one exchange of AUTH each. DotReader and DotWriter are the content between DATA and
// its final dot, and nothing but CRLF, "." and CRLF ends it.
package smtp

// Limits of RFC 5321 4.5.3.1, in octets.
const (
	LocalMax   = 64   // local part, 4.5.3.1.1
	DomainMax  = 255  // domain, 4.5.3.1.2
	PathMax    = 256  // path with its angle brackets, 4.5.3.1.3
	CommandMax = 512  // command line with its CRLF, 4.5.3.1.4, before what extensions add
	ReplyMax   = 512  // reply line with its CRLF, 4.5.3.1.5
	TextMax    = 1000 // line of content with its CRLF, 4.5.3.1.6
)
