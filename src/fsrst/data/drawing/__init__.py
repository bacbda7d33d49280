"""Drawn faces, so that everything can be tried on any machine without a photograph of anyone."""

from fsrst.data.drawing.face import draw
from fsrst.data.drawing.pen import person_of, view_of
from fsrst.image import Pixels


def draw_face(identity: int, view: int, size: int = 128) -> Pixels:
    """The face of person ``identity`` in picture ``view``: uint8 (size, size, 3), the same always.

    The identity fixes the face, its marks, hair, glasses, clothes; the view fixes pose,
    expression, light and background. ``size`` changes the resolution only.
    """
    return draw(person_of(identity), view_of(identity, view), size)
