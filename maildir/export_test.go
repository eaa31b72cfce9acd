package maildir

// Together makes even one who delivers sync the whole file system.
func (t *Transport) Together() *Transport {
	t.alone = 0
	return t
}
