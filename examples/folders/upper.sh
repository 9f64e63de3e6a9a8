set -eu
(cd "$1" && find . -type f) | while read -r file; do
    mkdir -p "$2/$(dirname "$file")"
    tr a-z A-Z < "$1/$file" > "$2/$file"
    echo "$file"
done
