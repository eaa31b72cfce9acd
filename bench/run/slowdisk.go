package main

import "errors"

const slowDiskArg = "slow-disk"

func serveSlowDisk(delay, config string) error { return errors.New("x") }
