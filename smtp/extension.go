package smtp

import "strings"

// Extensions is a set of service extensions (RFC 5321 2.2).
type Extensions uint32

// The extensions that this package has words for.
const (
	ExtPipelining          Extensions = 1 << iota // RFC 2920
	ExtSize                                       // RFC 1870
	Ext8BitMIME                                   // RFC 6152
	ExtSMTPUTF8                                   // RFC 6531
	ExtEnhancedStatusCodes                        // RFC 2034
	ExtDSN                                        // RFC 3461
	ExtStartTLS                                   // RFC 3207
	ExtAuth                                       // RFC 4954
	ExtChunking                                   // RFC 3030
	ExtBinaryMIME                                 // RFC 3030
	ExtLimits                                     // RFC 9422
	ExtDeliverBy                                  // RFC 2852
	ExtFutureRelease                              // RFC 4865
	ExtMTPriority                                 // RFC 6710
	ExtRRVS                                       // RFC 7293
	ExtNoSoliciting                               // RFC 3865
	ExtETRN                                       // RFC 1985
	ExtVRFY                                       // RFC 5321 3.5.2
	ExtEXPN                                       // RFC 5321 3.5.2
	ExtXCLIENT                                    // what Postfix calls so; in no RFC
)

// keywords are the EHLO keywords of the extensions.
var keywords = [...]struct {
	ext  Extensions
	word string
}{
	{ExtPipelining, "PIPELINING"},
	{ExtSize, "SIZE"},
	{Ext8BitMIME, "8BITMIME"},
	{ExtSMTPUTF8, "SMTPUTF8"},
	{ExtEnhancedStatusCodes, "ENHANCEDSTATUSCODES"},
	{ExtDSN, "DSN"},
	{ExtStartTLS, "STARTTLS"},
	{ExtAuth, "AUTH"},
	{ExtChunking, "CHUNKING"},
	{ExtBinaryMIME, "BINARYMIME"},
	{ExtLimits, "LIMITS"},
	{ExtDeliverBy, "DELIVERBY"},
	{ExtFutureRelease, "FUTURERELEASE"},
	{ExtMTPriority, "MT-PRIORITY"},
	{ExtRRVS, "RRVS"},
	{ExtNoSoliciting, "NO-SOLICITING"},
	{ExtETRN, "ETRN"},
	{ExtVRFY, "VRFY"},
	{ExtEXPN, "EXPN"},
	{ExtXCLIENT, "XCLIENT"},
}

// Has reports whether all of x are in e.
func (e Extensions) Has(x Extensions) bool { return e&x == x }

// Keywords returns the EHLO keywords of e, without parameters.
func (e Extensions) Keywords() []string {
	var words []string
	for _, k := range keywords {
		if e.Has(k.ext) {
			words = append(words, k.word)
		}
	}
	return words
}

// ParseExtension reads one line of an EHLO response after the first: keyword
// and parameters. An extension that is not known here is 0. RFC 5321 4.1.1.1:
// keywords are "processed in a case-insensitive manner".
func ParseExtension(line string) (ext Extensions, params string) {
	word, params, _ := strings.Cut(strings.TrimSpace(line), " ")
	for _, k := range keywords {
		if strings.EqualFold(word, k.word) {
			return k.ext, strings.TrimSpace(params)
		}
	}
	return 0, ""
}
