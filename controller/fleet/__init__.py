"""Workers put on the hosts of an inventory by Ansible."""
