step=0
save() {
    echo "saved at step $step" > "$1"
    echo "checkpoint saved"
    exit 0
}
trap 'save "$1"' TERM
echo "training"
while true; do
    step=$((step + 1))
    sleep 0.1
done
