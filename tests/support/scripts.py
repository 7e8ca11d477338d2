# ruff: noqa: RUF001  # letters that look alike are the point
"""Texts in many scripts, with characters on which offsets fail: for small tokenizers, and to compare results."""

from __future__ import annotations

SCRIPTS = {
    "latin": "On 12 March 2019 the World Health Organization opened a clinic in Nairobi, said Dr. Ada Lovelace.",
    "german": "Die Deutsche Bank eröffnete in München eine Filiale und stellte Herrn Müller als Leiter ein.",
    "spanish": "El presidente Gabriel Boric viajó el martes a São Paulo, donde lo esperaba José García.",
    "polish": "Maria Skłodowska-Curie urodziła się w Warszawie i pracowała w Paryżu.",
    "vietnamese": "Nguyễn Văn An sinh ra ở Hà Nội và làm việc tại Thành phố Hồ Chí Minh.",
    "turkish": "İstanbul Büyükşehir Belediyesi Işık Üniversitesi ile bir sözleşme imzaladı.",
    "cyrillic": "Владимир Петров приехал в Москву и встретился с директором компании Яндекс.",
    "greek": "Η Άννα Παπαδοπούλου γεννήθηκε στην Αθήνα και εργάζεται στο Πανεπιστήμιο Πατρών.",
    "arabic": "ولد محمد علي في القاهرة ويعمل في جامعة الأزهر منذ عام ٢٠٠٤.",
    "hebrew": "דוד כהן נולד בתל אביב ועובד בבנק לאומי.",
    "devanagari": "नरेंद्र मोदी ने नई दिल्ली में भारतीय रिज़र्व बैंक के गवर्नर से मुलाकात की।",
    "thai": "สมชายเกิดที่กรุงเทพมหานครและทำงานที่ธนาคารแห่งประเทศไทย",
    "han": "李明在北京大学学习,他的老师王芳来自上海。苹果公司在深圳开设了办事处。",
    "japanese": "東京電力の山田太郎社長は大阪で記者会見を開いた。トヨタ自動車は名古屋に本社がある。",
    "hangul": "김철수는 서울대학교에서 공부하고 삼성전자에서 일한다.",
    "emoji": '"We love Paris ❤️", wrote Teo Marsh 🎉 to the crew of the ferry Nordlys 👩‍🚀.',
    "urls": "Apple Inc. paid $1,299.00 (see https://example.com/shop?id=7 or mail sales@example.com).",
    "combining": "e\u0301te\u0301 cafe\u0301 I\u0307stanbul na\u00efve Ａｄａ ＬＯＶＥＬＡＣＥ \u00a0\u200bTokyo",
    "blanks": "Marie Curie\tmet Pierre\r\nin Paris \n\n and\u2003Warsaw",
    "short": "Oslo",
}
"""Texts by the name of their kind. No sentence is of a published corpus."""
