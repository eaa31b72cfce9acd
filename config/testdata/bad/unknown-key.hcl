hostname = "mx1.example.org"
data_dirr = "/var/lib/postrider"

listener "mx" {
	adress = ":25"
}
run_as = "postrider"
