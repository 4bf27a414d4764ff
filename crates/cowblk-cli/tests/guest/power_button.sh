#!/bin/sh
# What a guest does when its power button is pressed.
echo 'the power button was pressed' >/dev/console
sync
umount /mnt
poweroff -f
