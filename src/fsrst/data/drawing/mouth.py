"""Mouth, teeth and beard; conventions: ``fsrst.data.drawing.pen``."""

import numpy as np

from fsrst.data.drawing.pen import BLACK, WHITE, Dice, Pen, Person, mix, smooth


def mouth(pen: Pen, person: Person) -> None:
    dice, view = Dice(person.key, 14), pen.view
    half = dice.between(0.072, 0.092) + 0.016 * max(0.0, view.smile) - 0.006 * view.mouth_open
    full_up, full_low = dice.between(0.014, 0.026), dice.between(0.02, 0.034)
    bow, painted = dice.between(0.002, 0.011), person.feminine and dice.chance(0.55)
    lip = mix(person.skin, (176, 60, 66), 0.45)
    if painted:
        lip = dice.colour(((176, 30, 50), (200, 70, 100), (140, 40, 70), (206, 96, 84)))
    y = person.mouth_y
    gap = 0.032 * view.mouth_open
    corner = y - 0.022 * view.smile
    top = [(-half, corner), (-half * 0.45, y - full_up * 0.75), (-half * 0.14, y - full_up - bow),
           (0, y - full_up), (half * 0.14, y - full_up - bow), (half * 0.45, y - full_up * 0.75),
           (half, corner)]  # fmt: skip
    low = [(half * 0.5, y + gap + full_low * 0.85), (0, y + gap + full_low + 0.003),
           (-half * 0.5, y + gap + full_low * 0.85)]  # fmt: skip
    pen.fill(smooth(top + low, closed=True), lip)
    shine = mix(lip, WHITE, 0.4)
    pen.stroke(
        smooth([(-half * 0.35, y + gap + full_low * 0.5), (half * 0.3, y + gap + full_low * 0.5)]),
        shine, 0.006,
    )  # fmt: skip
    creases = np.linspace(-0.5, 0.5, 7) * half + dice.many(7) * 0.006
    starts = np.stack([creases, np.full(7, y + gap + 0.004)], 1)
    pen.strokes(
        np.stack([starts, starts + np.stack([creases * 0.1, np.full(7, full_low * 0.7)], 1)], 1),
        [mix(lip, BLACK, 0.25)], 0.0035,
    )  # fmt: skip
    dark = mix(mix(lip, BLACK, 0.65), (60, 10, 20), 0.3)
    if gap > 0.008:
        hole = smooth([
            (-half * 0.9, corner), (0, y - 0.002), (half * 0.9, corner),
            (half * 0.5, y + gap * 0.9), (0, y + gap + 0.004), (-half * 0.5, y + gap * 0.9),
        ], closed=True)  # fmt: skip
        pen.fill(hole, dark)
        with pen.inside(hole):
            teeth(pen, dice, half, y, gap, corner)
    line = smooth([(-half, corner), (-half * 0.5, (y + corner) / 2 + 0.002), (0, y + bow * 0.3),
                   (half * 0.5, (y + corner) / 2 + 0.002), (half, corner)])  # fmt: skip
    if gap <= 0.008:
        pen.stroke(line, dark, 0.007)
    ends = np.array([(-half - 0.003, corner), (half + 0.003, corner)])
    pen.dots(ends, np.full(2, 0.006), [mix(person.dark_skin, BLACK, 0.2)])


def teeth(pen: Pen, dice: Dice, half: float, y: float, gap: float, corner: float) -> None:
    tooth = dice.between(0.013, 0.02)
    enamel = mix(WHITE, (226, 206, 160), dice.between(0.0, 0.6))
    slack = min(gap * 0.62, 0.024)
    row = [(-half * 0.9, corner - 0.01), (half * 0.9, corner - 0.01), (half * 0.75, corner + slack),
           (0, y + slack + 0.002), (-half * 0.75, corner + slack)]  # fmt: skip
    pen.fill(smooth(row, closed=True), enamel)
    edges = np.arange(-4, 5) * tooth + dice.many(9) * 0.0018
    tops = np.stack([edges, np.full(9, corner - 0.01)], 1)
    seam = mix(enamel, BLACK, 0.4)
    pen.strokes(np.stack([tops, tops + (0, 0.045)], 1), [seam], 0.003)
    if dice.chance(0.25):
        pen.stroke(np.stack([tops[4], tops[4] + (0, 0.045)]), BLACK, 0.007)


def beard(pen: Pen, person: Person) -> None:
    dice = Dice(person.key, 15)
    kind = 0 if person.feminine else dice.index(5)  # none, none, stubble, moustache, full
    if kind < 2:
        return
    colour = mix(person.hair, BLACK, 0.25)
    shades = [colour, mix(colour, person.skin, 0.3), mix(colour, WHITE, 0.14)]
    drop = 0.02 * pen.view.mouth_open
    lip_line, chin = person.mouth_y, person.chin + drop
    if kind == 2:
        dots = dice.many(560, 2) * (person.jaw - 0.01, 0.13) + (0, 0.235)
        mouth_off = ((dots / (0.11, 0.05) - (0, lip_line / 0.05)) ** 2).sum(1) > 1
        ring = ((dots - (0, 0.1)) / (person.jaw, person.chin - 0.1)) ** 2
        inside = ring.sum(1) < 0.93
        pen.dots(
            dots[mouth_off & inside],
            np.full(560, 0.0034),
            [mix(c, person.skin, 0.55) for c in shades],
        )
        return
    count = 90
    roots = dice.many(count, 2) * (0.078, 0.008) + (0, lip_line - 0.036)
    fall = np.stack([roots[:, 0] * 0.35, 0.02 - np.abs(roots[:, 0]) * 0.02], 1)
    pen.strokes(np.stack([roots, roots + fall * 0.6, roots + fall], 1), shades, 0.005, lift=0.006)
    if kind == 4:
        angles = np.linspace(-0.02, np.pi + 0.02, 260) + dice.many(260) * 0.012
        reach = np.stack([np.cos(angles) * (person.jaw + 0.018), np.sin(angles) * (chin - 0.06)], 1)
        under = np.concatenate([reach[::13], reach[::-13] * (0.76, 0.68)]) + (0, 0.066)
        pen.fill(under, mix(colour, person.skin, 0.3), body=True)
        depth = 0.84 + 0.15 * dice.many(260)[:, None]
        roots = reach * depth + (0, 0.062)
        tips = reach * (depth + 0.1) + (0, 0.07) + dice.many(260, 2) * 0.006
        pen.strokes(np.stack([roots, (roots + tips) / 2, tips], 1), shades, 0.005)
