user = "post rider"
listener "mx" { address = "127.0.0.1:2525" }
limits { min_free = "0B" }
journal {
  keep     = "0s"
  max_size = "20KiB"
}
