"""to_char and to_number of numbers, over the value's text (the manual, 9.8)."""

from __future__ import annotations

import re
from decimal import Decimal

from cluster.errors import (
    InvalidTextRepresentation,
)
from planner.semantics.time_templates import ordinal
from storage.decimals import at_scale, shifted


def number_to_char(text: str, template: str) -> str:
    """to_char of a number's text: 9 0 . , D G L S MI PL SG PR FM V TH EEEE RN."""
    fill = "FM" not in template.upper()
    plain = re.sub("FM", "", template, flags=re.IGNORECASE)
    if text in ("NaN", "Infinity", "-Infinity"):
        return text
    value = Decimal(text)
    if plain.upper().strip() == "RN":
        roman = _roman(int(value))
        return (roman if plain.isupper() else roman.lower()).rjust(15 if fill else 0)
    prefix, plain, suffix = _without_quotes(plain)
    if "EEEE" in plain.upper():
        return prefix + _scientific(value, plain) + suffix
    return prefix + _NumberWriter(plain, fill).write(value) + suffix


def _without_quotes(template: str) -> tuple[str, str, str]:
    """Quoted text before and behind the number, and the template between."""
    match = re.fullmatch(r'((?:"[^"]*")*)(.*?)((?:"[^"]*")*)', template, re.DOTALL)
    assert match is not None
    return match[1].replace('"', ""), match[2], match[3].replace('"', "")


def _roman(value: int) -> str:
    if not 0 < value < 4000:
        return "#" * 15
    out = ""
    for worth, letters in (
        (1000, "M"),
        (900, "CM"),
        (500, "D"),
        (400, "CD"),
        (100, "C"),
        (90, "XC"),
        (50, "L"),
        (40, "XL"),
        (10, "X"),
        (9, "IX"),
        (5, "V"),
        (4, "IV"),
        (1, "I"),
    ):
        while value >= worth:
            out += letters
            value -= worth
    return out


def _scientific(value: Decimal, template: str) -> str:
    decimals = re.split(r"[.D]", template.upper().split("EEEE")[0] + ".")[1]
    digits = len(re.sub(r"[^90]", "", decimals))
    text = f"{value:.{digits}e}"
    mantissa, _, exponent = text.partition("e")
    sign, number = exponent[0] if exponent[0] in "+-" else "+", exponent.lstrip("+-")
    shown = f"{mantissa}e{sign}{number.zfill(2)}"
    return shown if value < 0 else " " + shown


class _NumberWriter:
    """One template for numbers, taken apart (PostgreSQL's NUM_processor in the small)."""

    def __init__(self, template: str, fill: bool) -> None:
        self.fill = fill
        upper = template.upper()
        self.ordinal = re.search("th", template, re.IGNORECASE)
        self.bracket = upper.endswith("PR")
        body = re.sub("TH|PR", "", upper)
        self.shift = 0
        if "V" in body:
            self.shift = len(re.sub("[^90]", "", body.split("V")[1]))
            body = body.replace("V", "")
        self.body = body
        whole, point, fraction = [*re.split("([.D])", body, maxsplit=1), "", ""][:3]
        self.whole, self.point, self.fraction = whole, point, fraction
        self.decimals = len(re.sub("[^90]", "", fraction))
        self.digits = len(re.sub("[^90]", "", whole))

    def write(self, value: Decimal) -> str:
        rounded = at_scale(shifted(value, self.shift), self.decimals).copy_abs()
        digits, _, decimals = format(rounded, "f").partition(".")
        negative = value < 0 and rounded != 0
        if len(digits) > self.digits and not (digits == "0" and self.digits == 0):
            number = re.sub("[90]", "#", self.whole) + ("." if self.point else "")
            number = re.sub("[GDS,MIPLSG ]", lambda m: "," if m.group() in "G," else "", number)
            number += "#" * self.decimals
        else:
            number = self._number(digits if rounded >= 1 or digits != "0" else "", decimals)
        return self._signed(number, negative)

    def _number(self, digits: str, decimals: str) -> str:
        padded = digits.rjust(self.digits)
        zero_from = next(
            (i for i, c in enumerate(re.sub("[^90]", "", self.whole)) if c == "0"), self.digits
        )
        if not digits and (zero_from >= self.digits) and not self.decimals:
            padded = "0".rjust(self.digits)
        out, at, started = [], 0, False
        for character in self.whole:
            if character in "90":
                digit = padded[at]
                if digit == " " and at >= zero_from:
                    digit = "0"
                started = started or digit != " "
                out.append(digit)
                at += 1
            elif character in ",G":
                out.append("," if started else " ")
            elif character == "L":
                out.append(" ")  # the currency sign of locale C
            elif character not in "SMIPLSG":
                out.append(character)
        text = "".join(out)
        if not self.fill:
            text = text.replace(" ", "")
        return text + self._fraction(decimals)

    def _fraction(self, decimals: str) -> str:
        if not self.point:
            return ""
        shown = decimals
        if not self.fill:
            zeros = re.sub("[^90]", "", self.fraction)
            keep = max((i + 1 for i, c in enumerate(zeros) if c == "0"), default=0)
            shown = decimals.rstrip("0")
            shown = decimals[: max(len(shown), keep)]
        return "." + shown

    def _signed(self, number: str, negative: bool) -> str:
        suffix = ""
        if self.ordinal and "." not in number and not negative:
            last = ordinal(number.strip())
            suffix = last.upper() if self.ordinal.group().isupper() else last
        if self.bracket:
            stripped = number.lstrip()
            lead = number[: len(number) - len(stripped)]
            return f"{lead}<{stripped}>" if negative else (f" {number} " if self.fill else number)
        signs = {"MI": ("-", " " if self.fill else ""), "SG": ("-", "+"), "PL": (" ", "+")}
        for mark, (minus, plus) in signs.items():
            if mark in self.body:
                sign = minus if negative else plus
                return sign + number if self.body.startswith(mark) else number + sign
        if "S" in self.body:
            sign = "-" if negative else "+"
            if self.body.endswith("S"):
                return number + sign
            stripped = number.lstrip()
            return number[: len(number) - len(stripped)] + sign + stripped
        stripped = number.lstrip()
        lead = number[: len(number) - len(stripped)]
        if negative:
            return lead + "-" + stripped + suffix
        return (" " if self.fill else "") + number + suffix


def to_number(text: str, template: str) -> str:
    """to_number: the digits, point and sign that the template lets through."""
    negative = "-" in text or ("<" in text and "PR" in template.upper())
    upper = template.upper()
    grouping = "," in template or "G" in upper
    cleaned = text.replace(",", "") if grouping else text.split(",")[0]
    match = re.search(r"\d*\.?\d*", re.sub(r"[^0-9.]", "", cleaned))
    digits = match.group() if match else ""
    if not re.search(r"\d", digits):
        raise InvalidTextRepresentation(f'invalid input syntax for type numeric: "{text}"')
    if not re.search(r"[.D]", upper):
        digits = digits.split(".")[0] or "0"
    else:
        places = len(re.sub(r"[^90]", "", re.split(r"[.D]", upper, maxsplit=1)[1]))
        whole, _, fraction = digits.partition(".")
        digits = f"{whole or '0'}.{fraction[:places]}".rstrip(".")
    if "V" in upper:
        shift = len(re.sub("[^90]", "", upper.split("V")[1]))
        digits = format(shifted(Decimal(digits), -shift), "f")
    return ("-" if negative else "") + digits
