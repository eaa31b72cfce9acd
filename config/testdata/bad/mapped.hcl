listener "mx" {
  address      = ":25"
  relay_from   = ["::ffff:192.0.2.0/90", "::ffff:192.0.2.7/120"]
  refuse       = ["::ffff:198.51.100.0/120", "::ffff:0:0/95"]
  proxy_from   = ["::ffff:203.0.113.7/0"]
  xclient_from = ["::ffff:203.0.113.7%eth0", "::ffff:203.0.113.7/129"]
}
limits { exempt = ["::ffff:10.0.0.0/8"] }
