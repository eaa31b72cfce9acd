package smtp

import "errors"

// External is the name of the mechanism of RFC 4422 A.
const External = "EXTERNAL"

// ExternalServer answers EXTERNAL (RFC 4422 A): who the client is, it has shown by
// other means, such as a certificate under TLS. verify is asked once, with whom it
// wants to act as, which is empty where it leaves that to us: RFC 4422 A.1: "the
// client is requesting to act as the identity the server associated with its
// authentication credentials". It is UTF-8 without NUL, and not prepared.
func ExternalServer(verify func(identity string) Reply) SASLServer { return externalServer{verify} }

type externalServer struct {
	verify func(identity string) Reply
}

func (s externalServer) Next(response []byte) ([]byte, bool, Reply) {
	switch {
	case response == nil:
		return nil, false, Reply{}
	case !isSASLText(string(response)):
		return nil, true, badMessage
	}
	return nil, true, s.verify(string(response))
}

// ExternalClient speaks EXTERNAL; an empty identity leaves it to the server who we
// are.
func ExternalClient(identity string) SASLClient { return externalClient{identity} }

type externalClient struct{ identity string }

func (externalClient) Mechanism() string { return External }

func (c externalClient) Start() ([]byte, error) {
	if !isSASLText(c.identity) {
		return nil, errIdentity
	}
	return []byte(c.identity), nil
}

func (externalClient) Next([]byte) ([]byte, error) { return nil, errChallenge }

var errIdentity = errors.New("smtp: whom to act as holds a NUL, or is not UTF-8")
