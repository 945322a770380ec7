#!/bin/sh
# Simulates NVIDIA's tool of this name on machines without a GPU: it answers the usual queries of programs.
gpus='@GPUS@'
name='NVIDIA H100 80GB HBM3'

if [ -z "$gpus" ]; then
    echo 'No devices were found'
    exit 6
fi

value() {
    case $1 in
        index) echo "$index" ;;
        uuid | gpu_uuid) echo "$uuid" ;;
        name | gpu_name) echo "$name" ;;
        driver_version) echo '550.54.15' ;;
        memory.total) echo "81559$mib" ;;
        memory.used) echo "0$mib" ;;
        memory.free) echo "81559$mib" ;;
        utilization.gpu) echo "0$percent" ;;
        *) echo "Field \"$1\" is not a valid field to query." >&2; exit 2 ;;
    esac
}

title() {
    case $1 in
        memory.*) echo "$1 [MiB]" ;;
        utilization.*) echo "$1 [%]" ;;
        *) echo "$1" ;;
    esac
}

query() {
    mib=' MiB' percent=' %'
    case $format in *nounits*) mib='' percent='' ;; esac
    fields=$(echo "$1" | tr ',' ' ')
    case $format in
        *noheader*) ;;
        *)
            line=''
            for field in $fields; do line="$line${line:+, }$(title "$field")"; done
            echo "$line"
            ;;
    esac
    echo "$gpus" | while read -r index uuid; do
        line=''
        for field in $fields; do
            answer=$(value "$field") || exit 2
            line="$line${line:+, }$answer"
        done
        echo "$line"
    done
}

list='' what='' format=''
for argument in "$@"; do
    case $argument in
        -L | --list-gpus) list=yes ;;
        --query-gpu=*) what=${argument#*=} ;;
        --query-compute-apps=*) exit 0 ;;
        --format=*) format=${argument#*=} ;;
    esac
done

if [ -n "$list" ]; then
    echo "$gpus" | while read -r index uuid; do echo "GPU $index: $name (UUID: $uuid)"; done
elif [ -n "$what" ]; then
    query "$what"
else
    echo '| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: 12.4 |'
    echo "$gpus" | while read -r index uuid; do echo "| $index  $name |"; done
fi
