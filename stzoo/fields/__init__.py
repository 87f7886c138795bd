"""Typed inputs, outputs, options and config values.

A field reads what people have (paths, PIL images, arrays, tensors) into one array layout, makes a deterministic sample,
previews and writes a value. Tasks are declared with fields, and everything generic goes through them, so a plugin may
bring a field of its own by subclassing :class:`Field`. No array library is imported when this module is.
"""

from stzoo.fields.base import Field as Field
from stzoo.fields.base import Value as Value
from stzoo.fields.base import suggestion as suggestion
from stzoo.fields.depth import Depth as Depth
from stzoo.fields.geometry import Scene as Scene
from stzoo.fields.maps import Map as Map
from stzoo.fields.masks import Mask as Mask
from stzoo.fields.masks import VideoMask as VideoMask
from stzoo.fields.pictures import Image as Image
from stzoo.fields.pictures import Video as Video
from stzoo.fields.prompts import Prompt as Prompt
from stzoo.fields.prompts import Prompts as Prompts
from stzoo.fields.series import Series as Series
from stzoo.fields.tiles import WINDOW as WINDOW
from stzoo.fields.tiles import tile_options as tile_options
from stzoo.fields.values import Choice as Choice
from stzoo.fields.values import Number as Number
from stzoo.fields.values import Shape as Shape
from stzoo.fields.values import Size as Size
from stzoo.fields.values import as_value as as_value
from stzoo.fields.values import complete_values as complete_values
from stzoo.fields.values import query_options as query_options
from stzoo.fields.vector import Vector as Vector
from stzoo.fields.volumes import Volume as Volume
from stzoo.fields.volumes import VolumeMask as VolumeMask
from stzoo.files import ARRAYS as ARRAYS
from stzoo.files import IMAGES as IMAGES
from stzoo.files import VIDEOS as VIDEOS
