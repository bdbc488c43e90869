"""The official files of releases: found, downloaded, checked, unpacked, read and decoded; and splits as lists."""
