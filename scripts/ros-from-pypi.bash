# SPDX-License-Identifier: Apache-2.0
#
# Makes .venv the ROS 2 of this shell, as `source /opt/ros/<distribution>/setup.bash` does
# with an installed one, so that colcon can build workspaces on it:
#
#   make setup && source scripts/ros-from-pypi.bash
#   colcon build --cmake-args -DPython3_EXECUTABLE="$VIRTUAL_ENV/bin/python"

# shellcheck source=/dev/null
source "$(dirname "${BASH_SOURCE[0]}")/../.venv/bin/activate"
export AMENT_PREFIX_PATH=$VIRTUAL_ENV CMAKE_PREFIX_PATH=$VIRTUAL_ENV
LD_LIBRARY_PATH=$VIRTUAL_ENV/lib$(printf ':%s' "$VIRTUAL_ENV"/lib/python3.*/site-packages/ros_*.libs)
export LD_LIBRARY_PATH
# The wheels would rewrite LD_LIBRARY_PATH in no certain order when Python starts, and could
# so put their own folder before that of a workspace sourced on top.
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
