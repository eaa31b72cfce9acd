hostname = env("POSTRIDER_NOT_SET")
data_dir = getenv("HOME")
postmaster = null
listener "mx" { address = "127.0.0.1:2525" }
