# SPDX-License-Identifier: Apache-2.0
"""A camera driver of somebody else: other names, YUV images with padded rows, a calibration."""

import sys

import numpy as np
import rclpy
from sensor_msgs.msg import CameraInfo, Image

WIDTH, HEIGHT, PADDING = 96, 64, 32


def main():
    rclpy.init(args=sys.argv)
    node = rclpy.create_node("usb_cam")
    images = node.create_publisher(Image, "image_raw", 10)
    infos = node.create_publisher(CameraInfo, "camera_info", 10)
    rows = np.random.default_rng(0).integers(0, 256, (HEIGHT, 2 * WIDTH + PADDING), np.uint8)

    def publish():
        image = Image(height=HEIGHT, width=WIDTH, encoding="yuv422_yuy2", step=rows.shape[1])
        image.data = rows.tobytes()
        image.header.frame_id = "usb_cam"
        image.header.stamp = node.get_clock().now().to_msg()
        info = CameraInfo(header=image.header, height=HEIGHT, width=WIDTH)
        info.k = [80.0, 0.0, 48.0, 0.0, 80.0, 32.0, 0.0, 0.0, 1.0]
        images.publish(image)
        infos.publish(info)

    node.create_timer(0.05, publish)
    rclpy.spin(node)


if __name__ == "__main__":
    main()
