"""The parts of a drawn face, from back to front. Conventions: see ``fsrst.data.drawing.pen``.

Every part throws its own dice from the person's number, so a freckle stays where it is whatever
the view does; what the view changes comes from ``pen.view`` alone.
"""

import numpy as np

from fsrst.data.drawing.hair import glasses, hair_behind, hair_in_front
from fsrst.data.drawing.mouth import beard, mouth
from fsrst.data.drawing.pen import (
    BLACK,
    CLOTHS,
    IRISES,
    SUPERSAMPLING,
    WHITE,
    Dice,
    Pen,
    Person,
    Points,
    View,
    background,
    bends,
    lit,
    mix,
    oval,
    smooth,
)
from fsrst.image import Pixels


def draw(person: Person, view: View, size: int) -> Pixels:
    """The portrait as uint8 (size, size, 3)."""
    times = SUPERSAMPLING if size >= 96 else -(-288 // size)
    pen = Pen(background(view, person.key, size * times), view)
    hair_behind(pen, person)
    neck_and_clothes(pen, person)
    ears(pen, person)
    head(pen, person)
    skin_marks(pen, person)
    nose(pen, person)
    mouth(pen, person)
    beard(pen, person)
    for side in (-1.0, 1.0):
        eye(pen, person, side)
        brow(pen, person, side)
    hair_in_front(pen, person)
    glasses(pen, person)
    small = pen.canvas.reduce(times)
    mask = pen.mask.reduce(times)
    return lit(np.asarray(small), np.asarray(mask), person, view)


def mirrored(points: list[tuple[float, float]]) -> Points:
    """A closed outline from its right half, listed from the top middle to the bottom middle."""
    right = np.array(points)
    left = right[1:-1][::-1] * (-1, 1)
    return smooth(np.concatenate([right, left]), closed=True)


def head(pen: Pen, person: Person) -> None:
    drop = 0.02 * pen.view.mouth_open
    pen.fill(
        mirrored([
            (0, -0.37), (0.13, -0.345), (0.22, -0.24), (person.cheek, -0.09),
            (person.cheek - 0.008, 0.06), (person.jaw + 0.012, 0.19 + drop),
            (person.jaw * 0.62, person.chin - 0.055 + drop), (person.jaw * 0.3, person.chin + drop),
            (0, person.chin + 0.008 + drop),
        ]),
        person.skin, body=True,
    )  # fmt: skip


def ears(pen: Pen, person: Person) -> None:
    dice = Dice(person.key, 10)
    high, lobe = dice.between(0.05, 0.068), dice.between(0.014, 0.024)
    ring = dice.index(3) if person.feminine else 2 * int(not dice.chance(0.12))
    metal = dice.colour(((236, 200, 96), (220, 224, 230), (90, 160, 190), (180, 60, 80)))
    radius = dice.between(0.008, 0.017)
    covered = person.style in ("long", "bob")
    for side in (-1.0, 1.0):
        x, y = side * (person.cheek + 0.006), 0.03
        if not covered:
            pen.fill(oval(x, y, 0.03, high), person.skin, body=True)
            pen.fill(oval(x - side * 0.004, y + high * 0.7, lobe, lobe), person.skin, body=True)
            inner = smooth([
                (x - side * 0.008, y - high * 0.6), (x + side * 0.014, y - high * 0.45),
                (x + side * 0.01, y + high * 0.25), (x - side * 0.004, y + high * 0.45),
            ])  # fmt: skip
            pen.stroke(inner, person.dark_skin, 0.006)
        if ring == 0:
            pen.dots(np.array([[x, y + high * 0.8]]), np.array([radius * 0.7]), [metal])
        elif ring == 1:
            hoop = oval(x, y + high + radius * 1.4, radius * 1.2, radius * 1.7)
            pen.stroke(np.concatenate([hoop, hoop[:1]]), metal, 0.006)
            pen.dots(np.array([[x, y + high + 3 * radius]]), np.array([0.006]), [WHITE])


def neck_and_clothes(pen: Pen, person: Person) -> None:
    dice = Dice(person.key, 11)
    wide = dice.between(0.105, 0.125) if person.feminine else dice.between(0.13, 0.16)
    neck_skin = mix(person.skin, person.dark_skin, 0.25)
    pen.fill(
        np.array([(-wide, 0.15), (wide, 0.15), (wide + 0.02, 0.5), (-wide - 0.02, 0.5)]),
        neck_skin, body=True,
    )  # fmt: skip
    cloth, second = dice.colour(CLOTHS, 0.2), dice.colour(CLOTHS, 0.2)
    if sum(abs(a - b) for a, b in zip(cloth, second, strict=True)) < 120:
        second = mix(cloth, WHITE if sum(cloth) < 380 else BLACK, 0.6)
    low, kind, pattern = dice.between(0.4, 0.44), dice.index(3), dice.index(5)
    step, tilt = dice.between(0.022, 0.042), dice.between(-0.4, 0.4)
    dip = (0.045, 0.16, 0.09)[kind]
    shoulders = smooth([
        (-0.75, 0.75), (-0.56, 0.47), (-0.3, low), (-wide, low - 0.05), (0, low - 0.05 + dip),
        (wide, low - 0.05), (0.3, low), (0.56, 0.47), (0.75, 0.75),
    ])  # fmt: skip
    pen.fill(shoulders, cloth, body=True)
    with pen.inside(shoulders):
        lines = np.arange(-0.8, 0.8, step)
        if pattern in (0, 3):
            ends = np.stack([lines, np.full_like(lines, 0.34)], 1)
            feet = np.stack([lines + tilt * 0.5, np.full_like(lines, 0.84)], 1)
            pen.strokes(np.stack([ends, feet], 1), [second], step * 0.3)
        if pattern in (1, 3):
            heights = np.arange(0.34, 0.75, step)
            left = np.stack([np.full_like(heights, -0.8), heights], 1)
            pen.strokes(np.stack([left, left + (1.6, 0)], 1), [second], step * 0.35)
        if pattern == 2:
            across, down = np.meshgrid(lines, np.arange(0.36, 0.6, step))
            spots = np.stack([across + (down / step % 2 > 1) * step / 2, down], -1).reshape(-1, 2)
            pen.dots(spots, np.full(len(spots), step * 0.24), [second])
    edge = mix(cloth, BLACK, 0.35)
    neckline = np.array([(-wide, low - 0.055), (0, low - 0.05 + dip), (wide, low - 0.055)])
    if kind == 2:  # a shirt with collar points and buttons
        for side in (-1.0, 1.0):
            flap = np.array([
                (side * wide, low - 0.08), (0, low - 0.05 + dip),
                (side * 0.07, low + 0.1), (side * (wide + 0.035), low - 0.01),
            ])  # fmt: skip
            pen.fill(flap, mix(cloth, WHITE, 0.3), body=True)
            pen.stroke(flap[[1, 2, 3]], edge, 0.005)
        pen.dots(np.array([[0, low + 0.09]]), np.array([0.009]), [second])
    else:
        pen.stroke(smooth(neckline), second if dice.chance(0.5) else edge, 0.014)
    if person.feminine and kind != 2 and dice.chance(0.6):
        chain = smooth([(-wide, low - 0.09), (0, low - 0.06 + dip * 0.75), (wide, low - 0.09)])
        beads = np.full(len(chain), dice.between(0.004, 0.009))
        pen.dots(chain, beads, [dice.colour(((240, 210, 120), (230, 230, 236), (170, 40, 60)))])


def skin_marks(pen: Pen, person: Person) -> None:
    """Freckles, moles, uneven skin and lines of age: what no 32-pixel picture can tell."""
    dice = Dice(person.key, 12)
    grain = face_spots(person, dice, 260, 0.34)
    tones = [mix(person.skin, other, 0.11) for other in (BLACK, WHITE, person.dark_skin)]
    pen.dots(grain, 0.0035 + 0.002 * dice.many(260), tones)
    if dice.chance(0.5):
        freckles = face_spots(person, dice, 24 + dice.index(90), 0.1) * (0.95, 1) + (0, 0.03)
        spots = [
            mix(person.skin, mix(person.dark_skin, (90, 44, 20), 0.4), s) for s in (0.4, 0.6, 0.8)
        ]
        pen.dots(freckles, 0.005 + 0.002 * dice.many(len(freckles)), spots)
    moles = face_spots(person, dice, dice.index(5), 0.3)
    sizes = 0.0065 + 0.0025 * dice.many(len(moles))
    pen.dots(moles, sizes, [mix(person.dark_skin, BLACK, 0.5)])
    line = mix(person.skin, person.dark_skin, 0.3 + 0.5 * person.age)
    if person.age > 0.45:
        for row in range(2 + dice.index(2)):
            y = -0.2 + 0.032 * row + dice.between(-0.006, 0.006)
            bow = dice.between(0.004, 0.014) - 0.01 * pen.view.brow_raise
            pen.stroke(
                smooth([(-0.1, y), (-0.04, y - bow), (0.05, y - bow), (0.1, y)]), line, 0.005
            )
    if person.age > 0.3 or pen.view.smile > 0.35:
        for side in (-1.0, 1.0):
            wide = 0.1 + 0.02 * max(0.0, pen.view.smile)
            fold = smooth([(side * 0.06, 0.11), (side * wide, 0.16), (side * wide, 0.21)])
            pen.stroke(fold, line, 0.006)
    if dice.chance(0.12):
        start = dice.many(2) * (0.15, 0.2)
        end = start + dice.many(2) * 0.06
        pen.stroke(np.stack([start, end]), mix(person.skin, (230, 150, 140), 0.8), 0.008)


def face_spots(person: Person, dice: Dice, count: int, high: float) -> Points:
    """Up to ``count`` points on the face, within ``high`` of the height of its middle."""
    points = dice.many(count, 2) * (person.cheek, high) + (0, 0.03)
    narrow = np.where(points[:, 1] > 0.08, 1 + 2.2 * (points[:, 1] - 0.08), 1)
    inside = (points[:, 0] * narrow / (person.cheek - 0.02)) ** 2 + (points[:, 1] / 0.33) ** 2 < 1
    return points[inside]


def nose(pen: Pen, person: Person) -> None:
    dice = Dice(person.key, 13)
    wide, tip = dice.between(0.036, 0.058), dice.between(0.105, 0.13)
    hook, bulb = dice.between(-0.006, 0.012), dice.between(0.016, 0.028)
    shadow = mix(person.skin, person.dark_skin, 0.6)
    light = mix(person.skin, WHITE, 0.35)
    side = 1.0 if pen.view.light[0] < 0 else -1.0
    ridge = smooth([
        (side * 0.026, person.eye_y - 0.03), (side * 0.015, 0.02),
        (side * (0.018 + hook), 0.06), (side * wide * 0.75, tip - 0.012),
    ])  # fmt: skip
    pen.stroke(ridge, mix(person.skin, person.dark_skin, 0.38), 0.008, lift=0.015)
    pen.stroke(smooth([(0, 0.0), (-side * hook, 0.05), (0, tip - 0.03)]), light, 0.009, lift=0.035)
    pen.fill(oval(-side * 0.005, tip - 0.014, bulb * 0.5, bulb * 0.4), light, lift=0.055)
    for turn in (-1.0, 1.0):
        wing = smooth([
            (turn * wide * 0.85, tip - 0.028), (turn * wide * 1.05, tip - 0.006),
            (turn * wide * 0.85, tip + 0.012), (turn * wide * 0.6, tip + 0.009),
        ])  # fmt: skip
        pen.stroke(wing, shadow, 0.0075, lift=0.012)
        hole = oval(turn * wide * 0.5, tip + 0.012, wide * 0.25, 0.0075)
        pen.fill(hole, mix(person.dark_skin, BLACK, 0.55), lift=0.025)
    under = smooth([(-wide * 0.3, tip + 0.016), (0, tip + 0.022), (wide * 0.3, tip + 0.016)])
    pen.stroke(under, shadow, 0.007, lift=0.03)


def eye(pen: Pen, person: Person, side: float) -> None:
    dice, view = Dice(person.key, 16), pen.view
    half, high = dice.between(0.047, 0.056), dice.between(0.022, 0.029)
    slant, double = dice.between(-0.008, 0.009), dice.chance(0.75)
    iris_size = dice.between(0.025, 0.028)
    lids = view.lids * (1 - 0.18 * max(0.0, view.smile))
    x, y = side * person.eye_x, person.eye_y
    outer, inner = (x + side * half, y - slant), (x - side * half, y + 0.006)
    peak, floor = y - high * lids, y + high * 0.62 - 0.004 * max(0.0, view.smile)
    upper = smooth(
        [inner, (x - side * half * 0.45, peak + 0.003), (x + side * half * 0.3, peak), outer]
    )
    lower = smooth([outer, (x + side * half * 0.3, floor), (x - side * half * 0.4, floor), inner])
    opening = np.concatenate([upper, lower])
    pen.fill(opening, (238, 234, 230))
    centre = np.array([x + 0.016 * view.gaze[0], y - 0.002 + 0.008 * view.gaze[1]])
    with pen.inside(opening):
        iris(pen, dice, centre, iris_size)
        pen.stroke(upper + (0, 0.004), mix((238, 234, 230), BLACK, 0.45), 0.006)
    pen.fill(oval(inner[0] + side * 0.005, inner[1], 0.006, 0.005, 10), (214, 140, 132))
    lash = mix(person.hair, BLACK, 0.7)
    thick = 0.0105 if person.feminine else 0.0075
    pen.stroke(upper, lash, thick)
    pen.stroke(lower, mix(person.skin, person.dark_skin, 0.65), 0.0045)
    if double:
        fold = upper + (0, -dice.between(0.010, 0.016))
        pen.stroke(fold[3:], mix(person.skin, person.dark_skin, 0.6), 0.005)
    if person.feminine:
        roots = upper[8::3]
        tips = roots + np.stack([(roots[:, 0] - x) * 0.28, np.full(len(roots), -0.014)], 1)
        pen.strokes(np.stack([roots, tips], 1), [lash], 0.004)
        if dice.chance(0.4):
            wing = np.array([outer, (outer[0] + side * 0.016, outer[1] - 0.011)])
            pen.stroke(wing, lash, 0.007)
    if person.age > 0.25:
        bag = lower[3:-2] + (0, 0.017)
        pen.stroke(bag, mix(person.skin, person.dark_skin, 0.25 + 0.3 * person.age), 0.0055)
        feet = np.array([[[0.012, -0.006], [0.032, -0.014]], [[0.013, 0.0], [0.036, 0.002]],
                         [[0.011, 0.007], [0.03, 0.017]]]) * (side, 1)  # fmt: skip
        if person.age > 0.5:
            pen.strokes(feet + outer, [mix(person.skin, person.dark_skin, 0.4)], 0.004)


def iris(pen: Pen, dice: Dice, centre: Points, radius: float) -> None:
    colour = dice.colour(IRISES)
    inner = mix(colour, (214, 160, 70), dice.between(0.1, 0.7))
    x, y = float(centre[0]), float(centre[1])
    pen.fill(oval(x, y, radius, radius), mix(colour, BLACK, 0.55))
    pen.fill(oval(x, y, radius * 0.86, radius * 0.86), colour)
    spokes = 14 + dice.index(10)
    angles = np.arange(spokes) * (2 * np.pi / spokes) + dice.many(spokes) * 0.15
    rays = np.stack([np.cos(angles), np.sin(angles)], 1)
    reach = 0.62 + 0.2 * dice.many(spokes)[:, None]
    pen.strokes(
        centre + np.stack([rays * 0.3, rays * reach], 1) * radius,
        [inner, mix(colour, WHITE, 0.35), mix(colour, BLACK, 0.4)], 0.0034,
    )  # fmt: skip
    pupil = dice.between(0.36, 0.46)
    pen.fill(oval(x, y, radius * pupil, radius * pupil, 14), BLACK)
    glint = np.array([[x + 0.007 * (1 if pen.view.light[0] > 0 else -1), y - 0.008]])
    pen.dots(glint, np.array([0.0055]), [WHITE])


def brow(pen: Pen, person: Person, side: float) -> None:
    dice = Dice(person.key, 17)
    start, end = dice.between(0.03, 0.046), dice.between(0.165, 0.185)
    arch, tail = dice.between(0.004, 0.03), dice.between(-0.008, 0.016)
    thick = dice.between(0.008, 0.016) if person.feminine else dice.between(0.013, 0.024)
    y = person.eye_y - dice.between(0.058, 0.078) - 0.012 * pen.view.brow_raise
    count = 64
    along = np.sort((dice.many(count) + 1) / 2)
    peak = dice.between(0.5, 0.7)
    rise = arch * np.where(along < peak, along / peak, 1 - (along - peak) / (1 - peak) * 0.6)
    spine = np.stack([start + (end - start) * along, y - rise + tail * along], 1)
    width = thick * np.where(along < 0.75, 0.8 + 0.3 * along, 1.03 * (1 - along) / 0.25 + 0.15)
    colour = (
        mix(person.hair, BLACK, 0.35) if sum(person.hair) > 150 else mix(person.hair, BLACK, 0.1)
    )
    body = np.concatenate([spine + np.stack([0 * along, width * 0.35], 1),
                           (spine - np.stack([0 * along, width * 0.35], 1))[::-1]])  # fmt: skip
    pen.fill(body * (side, 1), mix(colour, person.skin, 0.45), lift=0.01)
    lean = np.stack([0.008 + 0.014 * along, -width * (0.9 - 0.8 * along)], 1)
    roots = (
        spine + np.stack([0 * along, width * (0.5 - 0.35 * along)], 1) + dice.many(count, 2) * 0.002
    )
    hairs = bends(roots, roots + lean * (0.3, 0.7), roots + lean, 4) * (side, 1)
    if dice.chance(0.15):  # a gap: a scar in the brow
        hairs = hairs[(along < 0.6) | (along > 0.7)]
    pen.strokes(
        hairs, [colour, mix(colour, BLACK, 0.3), mix(colour, person.skin, 0.25)], 0.0042, lift=0.01
    )
