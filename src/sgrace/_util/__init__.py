"""What any room may use: errors, names of plug-ins, settings, files, hashes, pictures. It knows no other room."""
