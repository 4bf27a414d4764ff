#!/bin/busybox sh
# The first process of the test's guest: it makes itself at home, and does what it is told over the second serial port,
# a line at a time. After each line it says "@@" and the line's exit code.
/bin/busybox mkdir -p /proc /sys /dev /mnt /run /var/run /etc
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/sbin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do
    insmod "/modules/$module.ko" || echo "$module cannot be loaded"
done </modules/order
acpid -l /dev/null # what the power button does is in /etc/acpi
exec </dev/ttyS1 >/dev/ttyS1 2>&1
stty -echo
echo '@@ ready'
while read -r line; do
    eval "$line" </dev/null
    code=$?
    echo
    echo "@@ $code"
done
