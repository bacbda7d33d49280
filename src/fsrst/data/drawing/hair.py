"""Hair behind and in front of the head, and glasses; conventions: ``fsrst.data.drawing.pen``."""

import numpy as np

from fsrst.data.drawing.pen import (
    BLACK,
    WHITE,
    Colour,
    Dice,
    Pen,
    Person,
    Points,
    bends,
    mix,
    oval,
    smooth,
)


def strand_shades(person: Person, dice: Dice) -> list[Colour]:
    """Colours for strands: 41 of them, so that they do not repeat in step with the strands."""
    shades = [
        mix(person.hair, BLACK, 0.28), person.hair, mix(person.hair, WHITE, 0.15),
        mix(person.hair, BLACK, 0.42), mix(person.hair, (230, 170, 100), 0.25),
    ]  # fmt: skip
    return [shades[dice.index(5)] for _ in range(41)]


def hair_behind(pen: Pen, person: Person) -> None:
    """What falls behind the neck."""
    dice = Dice(person.key, 20)
    volume, length = dice.between(0.03, 0.06), dice.between(0.4, 0.62)
    wave = dice.between(0.0, 0.02)
    if person.style not in ("long", "bob", "curly"):
        return
    bottom = {"long": length, "bob": 0.27, "curly": 0.2 if not person.feminine else 0.34}
    low, side = bottom[person.style], person.cheek + volume
    outline = smooth([
        (-side * 0.7, -0.33), (0, -0.41), (side * 0.7, -0.33), (side, -0.1), (side + 0.02, 0.15),
        (side + 0.01, low), (0, low + 0.01), (-side - 0.01, low), (-side - 0.02, 0.15),
        (-side, -0.1),
    ], closed=True)  # fmt: skip
    dark = mix(person.hair, BLACK, 0.4)
    pen.fill(outline, dark, body=True)
    if person.style == "curly":
        curls(pen, person, dice, outline[(outline[:, 1] > -0.2)], 0.034, body=True)
        return
    shades = strand_shades(person, dice)
    starts = np.stack([dice.many(120) * (side + 0.01), np.full(120, 0.0)], 1)
    ends = starts * (1.04, 1) + (0, low) + dice.many(120, 2) * 0.012
    pen.strokes(
        bends(starts, (starts + ends) / 2 + dice.many(120, 2) * (wave, 0), ends), shades, 0.005
    )


def hairline(person: Person, dice: Dice) -> tuple[Points, float]:
    """The inner edge from the right temple over the forehead to the left one, and the parting."""
    part = dice.between(-0.12, 0.12)
    high = dice.between(-0.275, -0.235) - 0.02 * person.age * (not person.feminine)
    side = person.cheek - 0.012
    if person.style == "bob":
        fringe = dice.between(-0.14, -0.105)
        inner = [(side, 0.1), (side - 0.025, -0.03), (side - 0.06, fringe - 0.005), (0.06, fringe),
                 (-0.06, fringe + 0.004), (-side + 0.06, fringe), (-side + 0.025, -0.03),
                 (-side, 0.1)]  # fmt: skip
    elif person.style == "long":
        inner = [(side + 0.004, 0.16), (side - 0.012, -0.03), (side - 0.05, -0.16),
                 (part + 0.04, high + 0.02), (part, high - 0.03), (part - 0.04, high + 0.02),
                 (-side + 0.05, -0.16), (-side + 0.012, -0.03), (-side - 0.004, 0.16)]  # fmt: skip
    elif person.style == "short":
        fall = dice.between(0.02, 0.075)
        inner = [
            (side + 0.006, -0.02), (side - 0.014, -0.12), (side - 0.06, high + 0.03),
            (part + 0.05, high + fall), (part, high + 0.01), (part - 0.08, high + fall * 0.7),
            (-side + 0.05, high + 0.03), (-side + 0.014, -0.12), (-side - 0.006, -0.02),
        ]  # fmt: skip
    else:
        dip = dice.between(-0.012, 0.025)
        inner = [(side + 0.006, -0.03), (side - 0.01, -0.13), (side - 0.05, high + 0.045),
                 (0.07, high), (0, high + dip), (-0.07, high), (-side + 0.05, high + 0.045),
                 (-side + 0.01, -0.13), (-side - 0.006, -0.03)]  # fmt: skip
    return smooth(inner, steps=6), part


def hair_in_front(pen: Pen, person: Person) -> None:
    dice = Dice(person.key, 21)
    inner, part = hairline(person, dice)
    grown = {
        "short": 0.035,
        "swept": 0.06,
        "long": 0.04,
        "bob": 0.045,
        "curly": 0.06,
        "cropped": 0.008,
    }
    volume = grown[person.style] + dice.between(-0.006, 0.012)
    wide = person.cheek + 0.012 + volume * 0.4
    left, right = inner[-1], inner[0]
    outer = smooth([
        left, (-wide, left[1] - 0.06), (-wide * 0.99, -0.17), (-wide * 0.72, -0.315 - volume * 0.7),
        (-wide * 0.3, -0.372 - volume), (wide * 0.3, -0.372 - volume),
        (wide * 0.72, -0.315 - volume * 0.7), (wide * 0.99, -0.17), (wide, right[1] - 0.06), right,
    ], steps=6)  # fmt: skip
    outline = np.concatenate([outer, inner])
    shades = strand_shades(person, dice)
    if person.style == "cropped":
        pen.fill(outline, mix(person.hair, person.skin, 0.3), body=True)
        with pen.inside(outline):
            dots = dice.many(380, 2) * (wide, 0.2) + (0, -0.22)
            pen.dots(dots, np.full(380, 0.0048), [mix(c, person.skin, 0.15) for c in shades])
        return
    pen.fill(outline, mix(person.hair, BLACK, 0.22), body=True)
    if person.style == "curly":
        rows = [inner + (0, -0.006), outer + (0, 0.012)]
        rows += [inner * (1 - s) + outer[:: -1][: len(inner)] * s for s in (0.3, 0.6)
                 if len(outer) >= len(inner)]  # fmt: skip
        curls(pen, person, dice, np.concatenate(rows), 0.03, body=True)
        return
    count = 150
    at = (dice.many(count) + 1) / 2
    ends = (
        inner[np.minimum((at * len(inner)).astype(int), len(inner) - 1)]
        + dice.many(count, 2) * 0.008
    )
    if person.style == "swept":  # combed back, from the forehead over the top
        starts = ends
        ends = np.stack([starts[:, 0] * 1.1 + part * 0.5, -0.40 - volume - 0 * at], 1)
        ends = np.where(np.abs(starts[:, :1]) > 0.16, starts * (1.25, 1.0) + (0, -0.16), ends)
        middle = (starts + ends) / 2 + (part * 0.3, 0) + dice.many(count, 2) * 0.012
    else:  # falling from the parting
        starts = np.stack([part + dice.many(count) * 0.012 + ends[:, 0] * 0.25,
                           np.full(count, -0.372 - volume * 0.7)], 1)  # fmt: skip
        bulge = np.stack([np.sign(ends[:, 0] - part) * (0.05 + 0.12 * np.abs(ends[:, 0])),
                          np.full(count, -0.055)], 1)  # fmt: skip
        middle = (starts + ends) / 2 + bulge + dice.many(count, 2) * 0.008
    with pen.inside(outline):
        outer_ends = outer[np.minimum((at * len(outer)).astype(int), len(outer) - 1)]
        if person.style != "swept":
            side_middle = (starts + outer_ends) / 2 + (outer_ends - starts) * (0.18, -0.1)
            pen.strokes(bends(starts, side_middle, outer_ends), shades, 0.0085)
        pen.strokes(bends(starts, middle, ends), shades, 0.0085)
        if person.style in ("long", "bob"):
            locks(pen, dice, shades, person, wide)
    if person.feminine and dice.chance(0.3):
        clip(pen, dice, person)


def locks(pen: Pen, dice: Dice, shades: list[Colour], person: Person, wide: float) -> None:
    """Strands hanging along the cheeks."""
    for side in (-1.0, 1.0):
        x = side * (person.cheek - 0.015 + (wide - person.cheek + 0.02) * (dice.many(36) + 1) / 2)
        starts = np.stack([x, np.full(36, -0.2)], 1)
        ends = np.stack([x + dice.many(36) * 0.006, np.full(36, 0.2)], 1)
        pen.strokes(bends(starts, (starts + ends) / 2 + (side * 0.012, 0), ends), shades, 0.0085)


def curls(
    pen: Pen, person: Person, dice: Dice, along: Points, radius: float, body: bool = False
) -> None:
    """Round curls at the points ``along``, each a dark disc with spirals."""
    shades = strand_shades(person, dice)
    spots = along[::2] + dice.many(len(along[::2]), 2) * radius * 0.4
    for number, (x, y) in enumerate(spots.tolist()):
        size = radius * (0.8 + 0.3 * dice.between(-1, 1))
        pen.fill(oval(x, y, size, size, 14), mix(person.hair, BLACK, 0.3), body=body)
        start = dice.between(0, 2 * np.pi)
        for ring in (0.85, 0.6, 0.34):
            turn = start + np.arange(10) * 0.5
            arc = np.stack([x + size * ring * np.cos(turn), y + size * ring * np.sin(turn)], 1)
            pen.stroke(arc, shades[(number * 3 + int(ring * 10)) % 41], 0.0055)


def clip(pen: Pen, dice: Dice, person: Person) -> None:
    """A hair band or a clip, patterned."""
    colour = dice.colour(((210, 40, 70), (40, 120, 190), (240, 200, 70), (240, 240, 240)))
    if dice.chance(0.5):
        band = smooth([(-person.cheek - 0.02, -0.16), (-0.13, -0.32), (0, -0.355), (0.13, -0.32),
                       (person.cheek + 0.02, -0.16)])  # fmt: skip
        pen.stroke(band, colour, 0.03)
        pen.dots(band[::2], np.full(len(band[::2]), 0.007), [mix(colour, WHITE, 0.75)])
    else:
        x = dice.between(0.11, 0.17) * (1 if dice.chance(0.5) else -1)
        petals = oval(x, -0.25, 0.02, 0.02, 6)
        pen.dots(petals, np.full(6, 0.014), [colour])
        pen.dots(np.array([[x, -0.25]]), np.array([0.011]), [(250, 220, 110)])


def glasses(pen: Pen, person: Person) -> None:
    dice = Dice(person.key, 22)
    if not dice.chance(0.3):
        return
    colour = dice.colour(
        ((28, 24, 26), (110, 60, 30), (170, 140, 60), (150, 30, 50), (40, 60, 120))
    )
    wide, high = dice.between(0.07, 0.08), dice.between(0.048, 0.066)
    square, thick = dice.between(0.5, 1.0), dice.between(0.007, 0.016)
    spotted = dice.chance(0.35)
    for side in (-1.0, 1.0):
        ring = oval(0, 0, 1, 1, 28)
        ring = np.sign(ring) * np.abs(ring) ** square * (wide, high)
        ring = np.concatenate([ring, ring[:2]]) + (side * person.eye_x, person.eye_y + 0.008)
        pen.stroke(ring, colour, thick, lift=0.02)
        if spotted:
            pen.dots(
                ring[::2], np.full(15, thick * 0.28), [mix(colour, (230, 180, 90), 0.7)], lift=0.02
            )
        arm = np.array([(side * (person.eye_x + wide), person.eye_y - 0.01),
                        (side * (person.cheek + 0.008), person.eye_y - 0.004)])  # fmt: skip
        pen.stroke(arm, colour, thick, lift=0.01)
        glare = np.array([(-0.03, 0.02), (0.012, -0.03)]) + (side * person.eye_x, person.eye_y)
        pen.stroke(glare, mix(person.skin, WHITE, 0.6), 0.004, lift=0.025)
    y = person.eye_y - 0.006
    gap = person.eye_x - wide
    pen.stroke(smooth([(-gap, y), (0, y - 0.012), (gap, y)]), colour, thick, lift=0.025)
