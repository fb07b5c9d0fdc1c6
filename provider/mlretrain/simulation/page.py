"""x"""


def render_html(s):
    return ""
